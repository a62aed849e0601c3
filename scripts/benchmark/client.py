"""A streaming HTTP client that costs next to nothing: it shares the cores with the server it measures.

Speaks NDJSON (Ollama's ``/api/generate``), llama-server's ``/completion`` and OpenAI's ``/v1/completions``. Pieces
are counted as byte patterns in the raw stream; nothing is parsed until the last piece is in.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

MARKS = {"ollama": b'"done":false', "llama": b"data: {", "openai": b"data: {"}
PATHS = {"ollama": "/api/generate", "llama": "/completion", "openai": "/v1/completions"}
COUNTS = {
    "ollama": rb'"eval_count":(\d+)',
    "llama": rb'"predicted_n":(\d+)',
    "openai": rb'"completion_tokens":(\d+)',
}
PROMPTS = {
    "ollama": rb'"prompt_eval_count":(\d+)',
    "llama": rb'"tokens_evaluated":(\d+)',
    "openai": rb'"prompt_tokens":(\d+)',
}


class ServerFailed(RuntimeError):
    """The server answered with an error."""


@dataclass
class Answer:
    """``arrivals``: (seconds on the clock, pieces) per read that brought any."""

    sent: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0

    @property
    def ttft(self) -> float:
        return self.arrivals[0][0] - self.sent

    @property
    def wall(self) -> float:
        return self.arrivals[-1][0] - self.sent

    @property
    def gaps(self) -> list[float]:
        times = [t for t, _ in self.arrivals]
        return [b - a for a, b in itertools.pairwise(times)]

    @property
    def rate(self) -> float:
        """Tokens per second after the first."""
        return (self.tokens - 1) / max(self.arrivals[-1][0] - self.arrivals[0][0], 1e-9)


@dataclass(frozen=True)
class Client:
    """``kind``: ollama, llama or openai."""

    host: str
    port: int
    kind: str
    model: str = ""

    def body(self, prompt: str, predict: int) -> dict[str, Any]:
        match self.kind:
            case "ollama":
                options = {"num_predict": predict, "temperature": 0.8, "seed": 1, "ignore_eos": True}
                return {"model": self.model, "prompt": prompt, "raw": True, "options": options}
            case "llama":
                sampling = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "seed": 1}
                return {"prompt": prompt, "n_predict": predict, "stream": True, "ignore_eos": True, **sampling}
            case _:
                extra = {"stream_options": {"include_usage": True}, "temperature": 0.8, "top_p": 0.9}
                return {"model": self.model, "prompt": prompt, "max_tokens": predict, "stream": True, **extra}

    async def ask(self, prompt: str, predict: int, *, started: asyncio.Event | None = None) -> Answer:
        """Sends one request and reads its stream to the end; ``started`` is set after some tokens."""
        body = json.dumps(self.body(prompt, predict)).encode()
        head = (
            f"POST {PATHS[self.kind]} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(self.host, self.port)
        answer = Answer(time.perf_counter())
        writer.write(head.encode() + body)
        try:
            return await self._read(reader, answer, started)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, answer: Answer, started: asyncio.Event | None) -> Answer:
        mark, tail, last, pieces = MARKS[self.kind], b"", b"", 0
        status = await reader.readline()
        while data := await reader.read(1 << 16):
            now = time.perf_counter()
            text = tail + data
            count = text.count(mark)
            if count:
                answer.arrivals.append((now, count))
                pieces += count
                if started is not None and pieces > 8:
                    started.set()
            end = text.rfind(mark)
            tail = text[max(end + len(mark), len(text) - len(mark) + 1) :]
            last = (last + data)[-4096:]
        if b" 200 " not in status or not answer.arrivals:
            raise ServerFailed(f"{status!r} {last[-300:]!r}")
        answer.tokens = _number(COUNTS[self.kind], last) or pieces
        answer.prompt_tokens = _number(PROMPTS[self.kind], last)
        return answer


def _number(pattern: bytes, text: bytes) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0
