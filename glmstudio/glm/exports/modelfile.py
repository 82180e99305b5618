"""Ollama's description of a model: which file, how a conversation reads, and what ends an answer."""

from __future__ import annotations

from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.glm.exports.gguf_vocabulary import GgufVocabulary

_TEMPLATE = (
    '@START@{{ range .Messages }}<|{{ if eq .Role "tool" }}observation{{ else }}{{ .Role }}{{ end }}|>@LEAD@\n'
    "{{ if .Content }}@SPACE@{{ .Content }}{{ end }}{{ end }}<|assistant|>@ANSWER@"
)


def modelfile(file: str, vocabulary: GgufVocabulary) -> str:
    """The text for `ollama create NAME -f Modelfile`, beside the file."""
    stops = "".join(f'PARAMETER stop "{name}"\n' for name in ("<|user|>", "<|observation|>", "<|endoftext|>"))
    family = vocabulary.family
    filled = {
        "START": "[gMASK]<sop>" if family is CHATGLM3 else "".join(family.start),
        "LEAD": vocabulary.lead,
        "SPACE": " " if family is CHATGLM3 else "",
        "ANSWER": family.answer_begins,
    }
    text = _TEMPLATE
    for name, value in filled.items():
        text = text.replace(f"@{name}@", value)
    return f'FROM ./{file}\nTEMPLATE """{text}"""\n{stops}'
