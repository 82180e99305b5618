"""Ollama's description of a model: which file, how a conversation reads, and what ends an answer."""

from __future__ import annotations

from glmstudio.glm.exports.gguf_vocabulary import GgufVocabulary

_TEMPLATE = (
    '[gMASK]<sop>{{ range .Messages }}<|{{ if eq .Role "tool" }}observation{{ else }}{{ .Role }}{{ end }}|>@LEAD@\n'
    "{{ if .Content }} {{ .Content }}{{ end }}{{ end }}<|assistant|>"
)


def modelfile(file: str, vocabulary: GgufVocabulary) -> str:
    """The text for `ollama create NAME -f Modelfile`, beside the file."""
    stops = "".join(f'PARAMETER stop "{name}"\n' for name in ("<|user|>", "<|observation|>", "<|endoftext|>"))
    return f'FROM ./{file}\nTEMPLATE """{_TEMPLATE.replace("@LEAD@", vocabulary.lead)}"""\n{stops}'
