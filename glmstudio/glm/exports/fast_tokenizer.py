"""`tokenizer.json` from a sentencepiece vocabulary: the same ids for every text, in every program that reads it.

Its merges are all ways to put a piece together from two, those of the best score first, which is how sentencepiece
chooses. How exact that is, and what cannot be: `docs/serving.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from glmstudio.glm.exports.sentencepiece_file import (
    CONTROL_NAMES,
    NORMAL,
    SPECIAL_NAMES,
    TokenPiece,
    defined_by_user,
)

SPACE = "\u2581"
# A character that no text has (Unicode keeps it free for programs). The chat template puts it into a special token's
# name that somebody typed, so that nobody finds the name; the normaliser then takes it away, and the letters are left.
HIDES = "\ufdd0"
_FOUND = ("<|pad|>", "<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")


def fast_tokenizer(pieces: list[TokenPiece]) -> Tokenizer:
    """The tokenizer of these pieces, with ChatGLM3's special tokens after them."""
    defined = defined_by_user(pieces)
    names = [*CONTROL_NAMES, *(piece.text for piece in pieces[len(CONTROL_NAMES) :])]
    if not defined:  # plain entries, which no merge reaches: typing `[MASK]` gives letters
        names += SPECIAL_NAMES
    ids = {name: index for index, name in enumerate(names)}
    model = models.BPE(
        vocab=ids,
        merges=list(_merges(pieces)),
        unk_token=CONTROL_NAMES[0],
        fuse_unk=False,
        byte_fallback=True,
        ignore_merges=bool(defined),
    )
    made = Tokenizer(model)
    made.normalizer = normalizers.Sequence(
        [normalizers.Replace(HIDES, ""), normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    if defined:
        pattern = Regex("|".join(map(_escaped, defined)))
        made.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    made.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # With `ignore_merges` a stretch that is an entry would become it: there the special tokens stay out of the entries,
    # and are numbered on in their order.
    found = [*_FOUND[:2], *SPECIAL_NAMES] if defined else _FOUND
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in found])
    return made


def _merges(pieces: list[TokenPiece]) -> Iterator[tuple[str, str]]:
    """Every normal piece as two normal ones, in each way that there is; pieces of the best score first."""
    ids = {piece.text: index for index, piece in enumerate(pieces) if piece.kind == NORMAL}
    for piece in sorted((each for each in pieces if each.kind == NORMAL), key=lambda each: -each.score):
        halves = ((piece.text[:at], piece.text[at:]) for at in range(1, len(piece.text)))
        both = [(left, right) for left, right in halves if left in ids and right in ids]
        yield from sorted(both, key=lambda pair: (ids[pair[0]], ids[pair[1]]))


def _escaped(text: str) -> str:
    """A text for a regular expression: a line break as such, which no escape of it is in every dialect."""
    return "\n".join(map(re.escape, text.split("\n"))).replace("\n", "\\n")
