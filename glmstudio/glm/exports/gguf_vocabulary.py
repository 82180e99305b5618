"""A vocabulary as llama.cpp keeps one: texts, scores and kinds by id, and which ids end an answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from gguf import GGUFWriter
from gguf.constants import Keys

from glmstudio.data.protocol.tokenizer import EOS, PAD
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.family import Family
from glmstudio.glm.exports.byte_tokenizer import BytePairs
from glmstudio.glm.exports.fast_tokenizer import SPACE
from glmstudio.glm.exports.sentencepiece_file import (
    CONTROL,
    CONTROL_NAMES,
    NORMAL,
    SPECIAL_NAMES,
    UNKNOWN,
    USER_DEFINED,
    TokenPiece,
    defined_by_user,
)

_UNUSED = 5


@dataclass(frozen=True)
class GgufVocabulary:
    """The entries, up to the rows of the embedding; `lead` is what the template writes after a role's token. A
    byte-level vocabulary has `merges` and no scores."""

    texts: list[str]
    scores: list[float]
    kinds: list[int]
    special: dict[str, int]
    spaced: bool
    family: Family = CHATGLM3
    merges: list[str] = field(default_factory=list)

    @property
    def lead(self) -> str:
        """The space before a text, where llama.cpp must not write it itself."""
        return "" if self.spaced else " "


def gguf_vocabulary(pieces: list[TokenPiece], rows: int) -> GgufVocabulary:
    """The vocabulary of `pieces` for a model whose embedding has so many rows.

    llama.cpp looks for a piece of a user's in the text as it was typed, so such a piece has plain spaces, and it puts a
    space behind each; therefore no space is put anywhere by itself then, and the template writes the first one.
    """
    texts = [*CONTROL_NAMES]
    kinds = [UNKNOWN, CONTROL, CONTROL]
    for piece in pieces[len(CONTROL_NAMES) :]:
        texts.append(piece.text.replace(SPACE, " ") if piece.kind == USER_DEFINED else piece.text)
        kinds.append(piece.kind)
    special = {name: len(texts) + index for index, name in enumerate(SPECIAL_NAMES)}
    # Of the special tokens `<|assistant|>` alone is shown in an answer: it parts a thought from the call that follows.
    kinds += [USER_DEFINED if name == "<|assistant|>" else CONTROL for name in SPECIAL_NAMES]
    texts += SPECIAL_NAMES
    scores = [*(piece.score for piece in pieces), *(0.0 for _ in SPECIAL_NAMES)]
    left = range(len(texts), rows)
    texts += [f"[PAD{index}]" for index in left]
    kinds += [_UNUSED for _ in left]
    scores += [0.0 for _ in left]
    return GgufVocabulary(texts, scores, kinds, special, spaced=not defined_by_user(pieces))


def byte_vocabulary(pairs: BytePairs, family: Family, rows: int) -> GgufVocabulary:
    """The vocabulary of a family with byte-level BPE, for a model whose embedding has so many rows."""
    texts = [*pairs.tokens, *family.special]
    kinds = [NORMAL] * len(pairs.tokens)
    kinds += [USER_DEFINED if name == "<|assistant|>" else CONTROL for name in family.special]
    special = family.ids(len(pairs.tokens))
    left = range(len(texts), rows)
    return GgufVocabulary(
        texts + [f"[PAD{index}]" for index in left], [], kinds + [_UNUSED for _ in left], special, spaced=True,
        family=family, merges=[f"{left} {right}" for left, right in pairs.merges],
    )  # fmt: skip


def add_vocabulary(writer: GGUFWriter, vocabulary: GgufVocabulary, template: str) -> None:
    """Put it into the file, with the template for conversations without tools."""
    writer.add_tokenizer_model("gpt2" if vocabulary.merges else "llama")
    writer.add_tokenizer_pre("glm4" if vocabulary.merges else "default")
    writer.add_token_list(vocabulary.texts)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.kinds)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    if vocabulary.merges:
        writer.add_eos_token_id(vocabulary.special[vocabulary.family.end])
        writer.add_pad_token_id(vocabulary.special[vocabulary.family.pad])
    else:
        writer.add_add_space_prefix(vocabulary.spaced)
        writer.add_eos_token_id(EOS)
        writer.add_pad_token_id(PAD)
        writer.add_unk_token_id(PAD)
    writer.add_uint32(Keys.Tokenizer.EOT_ID, vocabulary.special["<|user|>"])
    writer.add_uint32(Keys.Tokenizer.EOM_ID, vocabulary.special["<|observation|>"])
    writer.add_chat_template(template)
