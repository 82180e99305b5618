"""vLLM's server as far as the studio uses it: it knows only the flags that it is given, checks them, and answers by rule.

`tests.fakes.vllm` lays it where a Python finds it as `vllm.entrypoints.openai.api_server`. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import socketserver
import stat
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

LONGEST = 2048


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("uds", "model", "served-model-name", "tool-parser-plugin", "tool-call-parser", "dtype"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tensor-parallel-size", type=int, required=True)
    parser.add_argument("--enable-auto-tool-choice", action="store_true", required=True)
    parser.add_argument("--enforce-eager", action="store_true")
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--enable-lora", action="store_true")
    for name in ("max-lora-rank", "max-loras", "max-cpu-loras"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--lora-modules", nargs="*", default=[])
    return parser.parse_args()


def check(given: argparse.Namespace) -> dict[str, str]:
    """What the real one would fail at, and what would be unsafe. Returns the adapters by name."""
    folder = Path(given.uds).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "others may reach the socket"
    assert len(given.uds) < 100, "a socket's path is too long"
    assert json.loads((Path(given.model) / "config.json").read_text())["model_type"] == "glm"
    assert Path(given.tool_parser_plugin).is_file()
    assert given.tool_call_parser == "chatglm3"
    assert len(os.environ["VLLM_API_KEY"]) >= 16
    assert (os.environ["VLLM_NO_USAGE_STATS"], os.environ["HF_HUB_OFFLINE"]) == ("1", "1")
    cards = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    on_cpu = given.enforce_eager
    assert given.tensor_parallel_size == (1 if on_cpu else len(cards.split(",")))
    assert Path.cwd() == folder
    adapters = {}
    for each in given.lora_modules:
        name, path = (json.loads(each)[key] for key in ("name", "path")) if each[0] == "{" else each.split("=")
        assert rank(path) <= given.max_lora_rank
        adapters[name] = path
    assert given.enable_lora or not adapters
    assert len(adapters) <= (given.max_loras or 0)
    return adapters


def rank(path: str) -> int:
    return int(json.loads((Path(path) / "adapter_config.json").read_text())["r"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    given: argparse.Namespace
    adapters: dict[str, str]

    def log_message(self, *_: Any) -> None:
        pass

    def address_string(self) -> str:
        return "socket"

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(None)
        elif self.allowed():
            self.answer({"data": [{"id": self.given.served_model_name, "max_model_len": LONGEST}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path == "/invocations":  # the real one asks for no key here
            self.answer({"secret": "no key was needed"})
        elif not self.allowed():
            pass
        elif self.path == "/v1/load_lora_adapter" and os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1":
            self.load(body)
        elif self.path == "/v1/chat/completions":
            self.chat(body)
        elif self.path == "/tokenize":
            self.answer({"tokens": [1, 2]})
        else:
            self.answer({"error": "no such address"}, 404)

    def allowed(self) -> bool:
        known = self.headers.get("Authorization") == f"Bearer {os.environ['VLLM_API_KEY']}"
        if not known:
            self.answer({"error": "Unauthorized"}, 401)
        return known

    def load(self, body: dict[str, Any]) -> None:
        if rank(body["lora_path"]) > self.given.max_lora_rank:
            self.answer({"error": {"message": "LoRA rank is greater than max_lora_rank."}}, 400)
            return
        self.adapters[body["lora_name"]] = body["lora_path"]
        self.answer({"loaded": True})

    def chat(self, body: dict[str, Any]) -> None:
        last = body["messages"][-1]
        if last["content"] == "end":
            os._exit(3)
        if len(last["content"] or "") > LONGEST:
            self.answer({"error": {"message": f"This model's maximum context length is {LONGEST} tokens."}}, 400)
            return
        assert body["model"] in (self.given.served_model_name, *self.adapters)
        call = bool(body.get("tools")) and last["role"] == "user"
        text = "" if call else f" \n I am {body['model']}: {last['content']}"
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "tool_calls": [self.called(body)] if call else []}
            self.answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
            return
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"tool_calls": [{"index": 0} | self.called(body)]}] if call else [{"content": each} for each in text]
        chunks: list[Any] = [{"choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
        chunks.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": len(deltas)}})
        lines = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
        self.answer(lines.encode(), kind="text/event-stream")

    def called(self, body: dict[str, Any]) -> dict[str, Any]:
        first = body["tools"][0]["function"]
        arguments = dict.fromkeys(first["parameters"].get("required", []), "Berlin")
        return {
            "id": "call_0",
            "type": "function",
            "function": {"name": first["name"], "arguments": json.dumps(arguments)},
        }

    def answer(self, told: Any, status: int = 200, kind: str = "application/json") -> None:
        raw = told if isinstance(told, bytes) else b"" if told is None else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main() -> None:
    Handler.given = options()
    Handler.adapters = check(Handler.given)
    print("stand-in:", " ".join(sys.argv[1:]), flush=True)
    Server(Handler.given.uds, Handler).serve_forever()


if __name__ == "__main__":
    main()
