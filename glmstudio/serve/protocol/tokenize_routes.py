"""The vocabulary over HTTP, as vLLM offers it: benchmarks need no tokenizer of their own then."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.serve.protocol.chat_request import refuse_no_switch
from glmstudio.serve.protocol.completion_request import checked_ids, text_ids
from glmstudio.serve.protocol.http import beside, read_body


def token_routes(tokenizer: Tokenizer, context: int) -> list[Route]:
    """`/tokenizer_info`, `/tokenize` and `/detokenize`."""
    made = _Tokens(tokenizer, context)
    return [
        Route("/tokenizer_info", made.info),
        Route("/tokenize", made.tokenize, methods=["POST"]),
        Route("/detokenize", made.detokenize, methods=["POST"]),
    ]


class _Tokens:
    """Text to ids and back for a model that reads `context` tokens."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self._tokenizer, self._context = tokenizer, context
        family = tokenizer.family
        begin = {family.start[-1]: tokenizer.start[-1]} if family.start else {}
        self._marks = begin | {family.end: tokenizer.end_id}

    async def info(self, _: Request) -> Response:
        """The names of the beginning and of the end, by which a program can ask `tokenize` for their ids."""
        end, begin = self._tokenizer.family.end, next(iter(self._tokenizer.family.start[-1:]), None)
        about = {"tokenizer_class": "ChatGLMTokenizer", "bos_token": begin, "eos_token": end}
        return JSONResponse(about | {"model_max_length": self._context, "chat_template": None})

    async def tokenize(self, request: Request) -> Response:
        """The ids of `prompt`, behind the two of a beginning unless `add_special_tokens` is false.

        A prompt that is nothing but the name of a mark is that mark; as a part of a text it is letters, as always.
        """
        body = await read_body(request)
        refuse_no_switch(body, "add_special_tokens")
        text = body.get("prompt")
        if isinstance(text, str) and text in self._marks:
            ids = [self._marks[text]]
        else:
            ids = await beside(request, text_ids, text, self._tokenizer, "prompt")
        if body.get("add_special_tokens") is not False:
            ids = [*self._tokenizer.start, *ids]
        return JSONResponse({"count": len(ids), "max_model_len": self._context, "tokens": ids})

    async def detokenize(self, request: Request) -> Response:
        """The text of `tokens`; marks are left out."""
        body = await read_body(request)
        ids = checked_ids(body.get("tokens"), self._tokenizer, "tokens")
        return JSONResponse({"prompt": await beside(request, self._tokenizer.decode, ids)})
