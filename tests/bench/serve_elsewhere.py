"""Exports read by the programs that they are for: `PYTHON tests/bench/serve_elsewhere.py READER FOLDER_OR_FILE`.

READER is `transformers` (whichever version PYTHON has: an older one by PYTHONPATH), `llama-cpp` (llama-cpp-python), `vllm` or
`vllm-server` (its OpenAI server with our tool parser: texts and tool calls, whole and streamed).
What the studio says is made before, by this project's Python: `python -m tests.bench.serve_elsewhere expect OUT`, which asks the
demo model 40 questions of its world and writes conversations, ids and greedy answers to the JSON file OUT; give it as EXPECTED.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_LENGTH = 96


def main() -> None:
    """Print how many prompts and answers are equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=("expect", "transformers", "llama-cpp", "vllm", "vllm-server"))
    parser.add_argument("target", type=Path)
    parser.add_argument("--expected", type=Path)
    parser.add_argument(
        "--adapter", type=Path, help="a LoRA adapter beside the model: PEFT's folder, for llama-cpp its GGUF file"
    )
    parser.add_argument("--type", default="", help="with expect: the GGUF type to which the weights are rounded")
    options = parser.parse_args()
    if options.reader == "expect":
        expect(options.target, options.type, options.adapter)
        return
    cases: list[dict[str, Any]] = json.loads(options.expected.read_text(encoding="utf-8"))
    if options.reader == "vllm-server":
        by_vllm_server(options.target, cases)
        return
    readers = {"transformers": by_transformers, "llama-cpp": by_llama_cpp, "vllm": by_vllm}
    version, prompts, answers = readers[options.reader](options.target, cases, options.adapter)
    equal = [
        sum(own == other[key] for own, other in zip(given, cases, strict=True))
        for given, key in ((prompts, "prompt"), (answers, "answer"))
    ]
    print(f"{options.reader} {version}: prompts {equal[0]} of {len(cases)}, greedy answers {equal[1]} of {len(cases)}")


def expect(out: Path, kind: str, adapter: Path | None) -> None:
    """Conversations of the demo's sample up to where the model speaks, with the studio's ids and greedy answers."""
    import torch

    from glmstudio.data.protocol.prompt import chat_ids
    from glmstudio.data.protocol.tokenizer import Tokenizer
    from glmstudio.families.message import Message
    from glmstudio.glm.exports.gguf_file import rounded
    from glmstudio.glm.exports.outside.transformers_check import answers
    from glmstudio.glm.load import load_model
    from glmstudio.paths import DEMO

    folder = DEMO / "model"
    own = Tokenizer(folder)
    model = load_model(folder, adapter, dtype=torch.float32, device="cpu")
    for each in model.parameters() if kind else ():
        each.data = rounded(kind, each.data).float()
    cases = []
    for line in (DEMO / "sample.jsonl").read_text(encoding="utf-8").splitlines()[::40][:40]:
        record = json.loads(line)
        first = next(turn for turn in record["conversations"] if turn["role"] == "user")
        messages, tools = [{"role": "user", "content": first["content"]}], record.get("tools")
        turns = [Message("user", first["content"])]
        if tools:
            from glmstudio.families.message import tools_message

            turns.insert(0, tools_message(tools))
        prompt = chat_ids(own, turns)
        answer = answers(model, [prompt], own.stop_ids, _LENGTH)["answers"][0]
        case = {"messages": messages, "tools": tools, "prompt": prompt, "answer": answer}
        cases.append(case | parsed(own, answer))
    out.write_text(json.dumps(cases, ensure_ascii=False), encoding="utf-8")
    print(f"{len(cases)} conversations, {sum(bool(case['tools']) for case in cases)} with tools")


def parsed(own: Any, answer: list[int]) -> dict[str, Any]:
    """Text and calls as the studio's server makes them of an answer's ids."""
    from glmstudio.chat.openai_messages import AnswerParser

    reader, segment = AnswerParser(), []
    for token in [*answer, own.special["<|assistant|>"]]:
        if token == own.special["<|assistant|>"]:
            reader.push(own.decode(segment))
            reader.end_segment()
            segment = []
        else:
            segment.append(token)
    calls = [[each["function"]["name"], json.loads(each["function"]["arguments"])] for each in reader.calls]
    return {"text": reader.text, "calls": calls}


def by_transformers(
    folder: Path, cases: list[dict[str, Any]], adapter: Path | None
) -> tuple[str, list[list[int]], list[list[int]]]:
    """With this Python's transformers, and no remote code."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    if adapter:
        import peft

        model = peft.PeftModel.from_pretrained(model, adapter).eval()
    prompts, answers = [], []
    for case in cases:
        text = tokenizer.apply_chat_template(
            case["messages"], tools=case["tools"], add_generation_prompt=True, tokenize=False
        )
        prompts.append(list(tokenizer(text, add_special_tokens=False)["input_ids"]))
        ids = torch.tensor([case["prompt"]])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=_LENGTH, do_sample=False)
        answers.append(out[0, ids.shape[1] :].tolist())
    return transformers.__version__, prompts, answers


def by_llama_cpp(
    file: Path, cases: list[dict[str, Any]], adapter: Path | None
) -> tuple[str, list[list[int]], list[list[int]]]:
    """With llama.cpp itself, the templates that lie in and beside the file, and its KV cache in float32."""
    import jinja2
    import llama_cpp

    more = {"lora_path": str(adapter)} if adapter else {}
    llama = llama_cpp.Llama(str(file), n_ctx=2048, verbose=False, type_k=0, type_v=0, n_threads=1, **more)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701  no page
    environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
    plain = llama.metadata["tokenizer.chat_template"]
    tools = (file.parent / "chat_template_tools.jinja").read_text(encoding="utf-8")
    prompts, answers = [], []
    for case in cases:
        template = environment.from_string(tools if case["tools"] else plain)
        text = template.render(messages=case["messages"], tools=case["tools"], add_generation_prompt=True)
        prompts.append(llama.tokenize(text.encode(), add_bos=False, special=True))
        llama.reset()
        ids: list[int] = []
        for token in llama.generate(case["prompt"], temp=0.0, top_k=1, repeat_penalty=1.0):
            ids.append(int(token))
            if len(ids) == len(case["answer"]):
                break
        answers.append(ids)
    return llama_cpp.__version__, prompts, answers


def by_vllm(
    folder: Path, cases: list[dict[str, Any]], adapter: Path | None
) -> tuple[str, list[list[int]], list[list[int]]]:
    """With vLLM's engine: its own prompts from the messages, and greedy answers from our ids."""
    import vllm
    from vllm.lora.request import LoRARequest

    engine = vllm.LLM(
        str(folder), dtype="float32", max_model_len=2048, enforce_eager=True, enable_lora=adapter is not None
    )
    beside = LoRARequest("beside", 1, str(adapter)) if adapter else None
    greedy = vllm.SamplingParams(temperature=0.0, max_tokens=_LENGTH)
    out = engine.generate([{"prompt_token_ids": case["prompt"]} for case in cases], greedy, lora_request=beside)
    answers = [list(each.outputs[0].token_ids) for each in out]
    one = vllm.SamplingParams(temperature=0.0, max_tokens=1)
    prompts = [list(engine.chat(case["messages"], one, tools=case["tools"])[0].prompt_token_ids) for case in cases]
    return vllm.__version__, prompts, answers


def by_vllm_server(folder: Path, cases: list[dict[str, Any]]) -> None:
    """Start vLLM's server as the export's README says, ask each conversation whole and streamed, and print what is equal."""
    import os
    import socket
    import subprocess
    import sys

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "glm", "--dtype", "float32",
        "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048", "--enforce-eager", "--enable-auto-tool-choice",
        "--tool-parser-plugin", str(folder / "chatglm3_tool_parser.py"), "--tool-call-parser", "chatglm3",
    ]  # fmt: skip
    with subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(port, server)
            whole = sum(asked(port, case) == (case["text"], case["calls"]) for case in cases)
            streamed = sum(asked(port, case, stream=True) == (case["text"], case["calls"]) for case in cases)
        finally:
            server.terminate()
    calls = sum(bool(case["calls"]) for case in cases)
    print(f"vllm-server: {whole} of {len(cases)} answers equal, {streamed} streamed; {calls} of them have calls")


def wait_for(port: int, server: Any) -> None:
    """Until the server answers."""
    import time
    import urllib.request

    while server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
            return
        except OSError:
            time.sleep(1)
    raise SystemExit("the server ended")


def asked(port: int, case: dict[str, Any], *, stream: bool = False) -> tuple[str, list[Any]]:
    """Text and calls of one answer."""
    import urllib.request

    tools = [{"type": "function", "function": each} if "function" not in each else each for each in case["tools"] or []]
    body = {"model": "glm", "messages": case["messages"], "temperature": 0, "max_tokens": _LENGTH, "stream": stream}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body | ({"tools": tools} if tools else {})).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        if not stream:
            message = json.load(answer)["choices"][0]["message"]
            found = [each["function"] for each in message.get("tool_calls") or []]
            return (message.get("content") or "").strip(), [
                [each["name"], json.loads(each["arguments"])] for each in found
            ]
        text, calls = "", {}
        for line in answer:
            data = line.decode().removeprefix("data: ").strip()
            if not data or data == "[DONE]":
                continue
            for choice in json.loads(data)["choices"]:
                text += choice["delta"].get("content") or ""
                for each in choice["delta"].get("tool_calls") or []:
                    call = calls.setdefault(each["index"], ["", ""])
                    call[0] += each["function"].get("name") or ""
                    call[1] += each["function"].get("arguments") or ""
        return text.strip(), [[name, json.loads(arguments)] for name, arguments in calls.values()]


if __name__ == "__main__":
    main()
