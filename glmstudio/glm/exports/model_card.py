"""The README of an export: what it is, what it learned and from what, how it was checked, and the lines that run it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.recognition import family_of
from glmstudio.glm.exports.gguf_file import TOOLS_TEMPLATE
from glmstudio.glm.exports.self_check import CheckResult
from glmstudio.models.exports.export_request import GGUF, K_QUANTS, NATIVE, PEFT, TOOL_PARSER, ExportRequest
from glmstudio.words import LANGUAGES, say


def model_card(
    request: ExportRequest,
    checked: CheckResult | None,
    *,
    kind: str = "",
    file: str = "",
    difference: float | None = None,
) -> str:
    """The text in both languages. `kind` is the type that was checked, `file` the weights' (of an adapter in PEFT's
    format: the base), `difference` that of an adapter that was read back."""
    parts = [_head(request), f"# {request.title}"]
    for lang in LANGUAGES:
        parts += _told(lang, request)
    parts += [_facts(request), f"## {_said_both('check_head')}", *_checks(request, checked, kind, difference)]
    parts += [f"## {_said_both('use_head')}", *_lines(request, file)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(request: ExportRequest) -> str:
    """What a hub reads, as YAML, of which JSON is a part."""
    card = request.card
    licence = str(card.get("licence", "")).lower()
    open_one = licence in ("apache-2.0", "mit")
    rows: dict[str, Any] = {"license": licence if open_one else "other"}
    if card.get("licence_link") and not open_one:
        rows |= {"license_name": licence, "license_link": card["licence_link"]}
    if card.get("repo"):
        rows["base_model"] = card["repo"]
    library = {NATIVE: "transformers", PEFT: "peft"}.get(request.form, "gguf")
    rows |= {"library_name": library, "pipeline_tag": "text-generation", "language": ["zh", "en"]}
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in rows.items()]
    return "\n".join(["---", *lines, "---"])


def _told(lang: str, request: ExportRequest) -> Iterator[str]:
    card = request.card
    values = {"title": request.title, "base": card.get("base", request.name), "kind": request.kind}
    about = say(lang, f"exports.card.{request.form}", **values)
    settings = card.get("settings") or {}
    if card.get("run"):
        about += " " + say(lang, "exports.card.tuned", method=settings.get("method", "–"), step=card.get("step"))
    yield about
    yield say(lang, "exports.card.licence", licence=card.get("licence", "–"), link=card.get("licence_link", "")).strip()


def _facts(request: ExportRequest) -> str:
    """Settings, data, losses and scores as a table."""
    card = request.card
    rows = [(name, str(value)) for name, value in (card.get("settings") or {}).items()]
    if card.get("data"):
        rows += [(_said_both("data"), str(card["data"])), (_said_both("records"), str(card.get("records") or "–"))]
        rows.append(("SHA-256", str(card.get("sha256") or "–")))
    if card.get("loss") is not None:
        losses = [card.get(name) for name in ("loss", "validation_loss")]
        rows.append((_said_both("loss"), ", ".join("–" if x is None else f"{x:.4f}" for x in losses)))
    for line, count in (card.get("score") or {}).items():
        name = f"{_said_both('score')}: {line}"
        rows.append((name, f"{count.get('base', '–')}, {count['tuned']} / {count['of']}"))
    if not rows:
        return ""
    return "\n".join(["| | |", "|---|---|", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows)])


def _checks(request: ExportRequest, checked: CheckResult | None, kind: str, difference: float | None) -> Iterator[str]:
    for lang in LANGUAGES:
        if difference is not None:
            yield say(lang, "exports.card.check_adapter", difference=difference)
        elif checked is None:
            yield say(lang, "exports.card.check_none")
        else:
            name = f"transformers {checked.reader}" if request.form in (NATIVE, PEFT) else checked.reader
            said = [say(lang, "exports.card.check", **vars(checked) | {"reader": name})]
            if checked.answers:
                said.append(say(lang, "exports.card.check_answers", **vars(checked)))
            if checked.equal < checked.answers:
                said.append(say(lang, "exports.card.check_ties"))
            if checked.moved and kind:
                key = "merged" if request.card.get("settings", {}).get("method") == "lora" else "rounded"
                said.append(say(lang, f"exports.card.check_{key}", kind=kind, moved=checked.moved))
            if request.kind in K_QUANTS:
                said.append(say(lang, "exports.card.check_quantized"))
            yield ("" if lang == "zh" else " ").join(said)


def _lines(request: ExportRequest, file: str) -> Iterator[str]:
    """The lines for each program; the folder by its name, as it lies in the one where they are typed."""
    folder = shlex.quote(f"./{request.title}")
    if request.form == NATIVE:
        yield from _for_native(request, folder)
    elif request.form == PEFT:
        yield from _for_peft(request.title, folder)
    elif request.form == GGUF:
        yield from _for_gguf(folder, file)
    else:
        yield _code(f"llama-server --jinja -m BASE.gguf --lora {folder}/{shlex.quote(file)}")


def _for_native(request: ExportRequest, folder: str) -> Iterator[str]:
    code = _TRANSFORMERS.format(folder=json.dumps(f"./{request.title}", ensure_ascii=False))
    yield f"transformers:\n\n{_code(code, 'python')}"
    sglang = f"python -m sglang.launch_server --model-path {folder}"
    if family_of(request.model) is CHATGLM3:
        plugin = f"--tool-parser-plugin {folder}/{TOOL_PARSER} --tool-call-parser chatglm3"
        yield f"vLLM:\n\n{_code(f'vllm serve {folder} --enable-auto-tool-choice {plugin}')}"
        yield from _said("tools_vllm")
        yield f"SGLang:\n\n{_code(f'{sglang} --tool-call-parser response_template')}"
        yield from _said("tools_sglang")
    else:
        yield f"vLLM:\n\n{_code(f'vllm serve {folder}')}"
        yield f"SGLang:\n\n{_code(sglang)}"
        yield from _said("tools_by_client")
    run = request.card.get("run")
    what = ["runs", "export", str(run)] if run else ["models", "export", request.name]
    yield f"llama.cpp:\n\n{_code(shlex.join(['python', 'launcher.py', *what, '--to', 'gguf', 'FOLDER']))}"
    yield from _said("typed")


def _for_peft(title: str, folder: str) -> Iterator[str]:
    yield _code(_PEFT.format(folder=json.dumps(f"./{title}", ensure_ascii=False)), "python")
    line = f"vllm serve BASE_FOLDER --enable-lora --lora-modules {shlex.quote(title)}={folder}"
    yield f"vLLM (LoRA):\n\n{_code(line)}"


def _for_gguf(folder: str, file: str) -> Iterator[str]:
    where = f"{folder}/{shlex.quote(file)}"
    yield f"llama.cpp:\n\n{_code(f'llama-server --jinja -m {where}')}"
    yield from _said("tools_llama")
    yield _code(f"llama-server --jinja -m {where} --chat-template-file {folder}/{TOOLS_TEMPLATE} --skip-chat-parsing")
    yield f"Ollama:\n\n{_code(f'cd {folder} && ollama create NAME -f Modelfile && ollama run NAME')}"
    yield from _said("ollama")
    yield from _said("k_quants")
    yield _code("llama-quantize NAME-f16.gguf NAME-q4_k_m.gguf Q4_K_M")


def _said(key: str) -> Iterator[str]:
    yield "\n\n".join(say(lang, f"exports.card.{key}") for lang in LANGUAGES)


def _said_both(key: str) -> str:
    return " · ".join(say(lang, f"exports.card.{key}") for lang in LANGUAGES)


def _code(text: str, kind: str = "") -> str:
    return f"```{kind}\n{text}\n```"


def _cell(text: str) -> str:
    """Text of a user's for a table of Markdown: one line, and nothing that a page would run."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("|", "\\|")[:200]


_TRANSFORMERS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder}, torch_dtype="auto", device_map="auto")
messages = [{{"role": "user", "content": "你好"}}]
text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
out = model.generate(**ids, max_new_tokens=200)
print(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True).strip())"""

_PEFT = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("BASE_FOLDER", torch_dtype="auto")
model = PeftModel.from_pretrained(base, {folder})"""
