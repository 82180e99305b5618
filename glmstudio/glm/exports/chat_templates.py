"""The conversation format for other programs, as Jinja text: with tools, or plain.

A special token's name that somebody typed must stay letters. In `tokenizer.json` a character that the normaliser takes
away hides it (`fast_tokenizer.HIDES`), and the ids are those of the letters. llama.cpp has no normaliser: there a space
stands in the name, which is safe, and a token more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glmstudio.families.chatglm3 import CHATGLM3, INTERPRETER_PROMPT, TOOL_PROMPT
from glmstudio.families.family import Family
from glmstudio.families.glm4 import Glm4, tool_texts
from glmstudio.families.glm_z1 import END
from glmstudio.files import read_text
from glmstudio.glm.exports.fast_tokenizer import HIDES
from glmstudio.glm.exports.sentencepiece_file import EVERY_NAME

_TEXTS = Path(__file__).parent / "texts"
# Signs that nobody sees and that Python, whose way to write a value the model learned, writes as an escape. There are
# more; these are what texts and emojis have: wide and narrow spaces, joiners, marks of direction.
_UNSEEN = "\xa0\xad\u2002\u2003\u2009\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202f\u3000\ufeff\x00\x1b\x7f"

# What transformers 5, vLLM and SGLang read an answer by. The thought, if there is one, comes first; then a line with
# the tool's name and the call. Values are read as JSON, so a string with an escape keeps it; the plugin for vLLM
# reads all.
RESPONSE_TEMPLATE: dict[str, Any] = {
    "version": 1,
    "defaults": {"role": "assistant"},
    "start_anchor": "<|assistant|>",
    "fields": {
        "tool_calls": {
            "open_pattern": r"(?:<\|assistant\|>)?[ ]*(?P<name>[^\s<>`]{1,64})[ ]*\n\s*```python\s*tool_call\(",
            "close_pattern": r"\)\s*```(?:<\|observation\|>|<\|user\|>|<\|endoftext\|>)?",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": (
                    r"(?P<key>[^\W\d]\w*)\s*=\s*(?P<value>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
                    r"|\[.*?\]|\{.*?\}|[^,'\"\[\{]+)(?=\s*(?:,\s*[^\W\d]\w*\s*=|\Z))"
                ),
                "value_parser": {"name": "json", "args": {"string_delims": [["'", "'"]], "allow_non_json": True}},
            },
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close_pattern": r"<\|(?:user|observation|endoftext)\|>", "content": "text"},
    },
}


def chat_template(family: Family = CHATGLM3, *, tools: bool = True, hides: str = HIDES, lead: str = "") -> str:
    """The template of a family, for conversations with tools or without any word of them.

    `hides` keeps a typed name apart; `lead` stands after a role's token (a vocabulary with pieces of a user's in GGUF).
    """
    kind = "chat_template" if family is CHATGLM3 else "chat_template_glm4"
    text = read_text(_TEXTS / f"{kind}{'' if tools else '_plain'}.jinja")
    names = special_names(family)
    hide = "".join(f" | replace({_quoted(name)}, {_quoted(_split(name, hides))})" for name in names)
    escapes = "".join(f" | replace({_quoted(sign)}, {_quoted(repr(sign)[1:-1])})" for sign in _UNSEEN)
    filled = {"HIDE": hide, "REPR": escapes, "LEAD": lead, "TOOLS": TOOL_PROMPT, "INTERPRETER": INTERPRETER_PROMPT}
    filled |= _of_glm4(family) if isinstance(family, Glm4) else {}
    for name, value in filled.items():
        text = text.replace(f"@{name}@", value)
    return text


def special_names(family: Family) -> tuple[str, ...]:
    """The special tokens as other programs name them."""
    return EVERY_NAME if family is CHATGLM3 else family.special


def kept_apart(text: str, hides: str, family: Family = CHATGLM3) -> str:
    """A text as the template writes it."""
    for name in special_names(family):
        text = text.replace(name, _split(name, hides))
    return text


def _of_glm4(family: Glm4) -> dict[str, str]:
    """What GLM-4 and its later members say in words of their own, taken from what they themselves write."""
    before, _, rest = family.tools_text(("\0", "\1")).partition("\0")
    (tool,) = tool_texts(json.dumps([{"name": "\0"}]))
    return {
        "START": _quoted("".join(family.start)),
        "BEFORE_TOOLS": _quoted(before),
        "BETWEEN_TOOLS": _quoted(rest.partition("\1")[0]),
        "ASK": _quoted(tool.rpartition("}\n")[2]),
        "ANSWER": _quoted(family.answer_begins),
        "VISIBLE": f".split({_quoted(END)})[-1].strip()" if family.thinks else "",
    }


def _split(name: str, hides: str) -> str:
    """The name with `hides` before its last sign: `<|user >`."""
    cut = len(name) - (2 if name.endswith("|>") else 1)
    return name[:cut] + hides + name[cut:]


def _quoted(text: str) -> str:
    """As a string of Jinja, which is one of JSON; what cannot be seen is written as itself, as every engine reads
    it."""
    return json.dumps(text, ensure_ascii=False)
