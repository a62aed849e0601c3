"""gpt-oss: an answer is a row of messages with headers, ``<|channel|>NAME<|message|>TEXT<|end|>``.

The channel ``analysis`` is thinking, a message ``to=functions.NAME`` is a call, everything else is content. Does all
that ``chat.output`` asks of a parser.
"""

from __future__ import annotations

import re

from server.types import Chunk
from server.worker.chat.formats.bodies import Tools
from server.worker.chat.formats.calls import CallCounter, read_arguments
from server.worker.chat.formats.markers import held_back

MESSAGE, START, CHANNEL = "<|message|>", "<|start|>", "<|channel|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>", START, CHANNEL)
ANALYSIS = f"{CHANNEL}analysis{MESSAGE}"
FINAL = f"{CHANNEL}final{MESSAGE}"
END_OF_THINKING = "<|end|><|start|>assistant"
FIND_END = re.compile("|".join(map(re.escape, ENDS)))
RECIPIENT = re.compile(r"to=functions\.([^\s<]+)")
MAX_HEADER = 256


class HarmonyParser:
    """``calls_only``: a constraint that covers the headers of calls applies outside of the analysis."""

    marker = ""

    def __init__(self, tools: Tools, counter: CallCounter | None = None, *, calls_only: bool = False) -> None:
        self._tools, self._counter, self._calls_only = tools, counter or CallCounter(), calls_only
        self._held = ""
        self._header = ""
        self._body: list[str] = []
        self._state = "header"  # header, analysis, call, content

    @property
    def thinking(self) -> bool:
        return self._state == "analysis"

    @property
    def in_call(self) -> bool:
        return self._state == "call"

    @property
    def in_content(self) -> bool:
        return self._state in ("call", "content")

    def may_think(self, text: str) -> bool:
        if self._state != "header":
            return self._state == "analysis"
        said = (self._held + text).removeprefix(f"{START}assistant")
        wanted = (ANALYSIS,) if self._calls_only else (ANALYSIS, FINAL)
        return f"{START}assistant".startswith(said) or any(
            header.startswith(said) or said.startswith(header) for header in wanted
        )

    def feed(self, text: str) -> list[Chunk]:
        self._held += text
        return self._advance(final=False)

    def finish(self) -> list[Chunk]:
        chunks = self._advance(final=True)
        return chunks + (self._end_call() if self._state == "call" else [])

    def _advance(self, *, final: bool) -> list[Chunk]:
        chunks: list[Chunk] = []
        while self._held and (self._read_header if self._state == "header" else self._read_body)(chunks, final):
            pass
        return chunks

    def _read_header(self, chunks: list[Chunk], final: bool) -> bool:
        at = self._held.find(MESSAGE)
        if at < 0:
            start = self._held.lstrip()
            header = start.startswith(("<|", "to=")) or any(m.startswith(start) for m in (START, CHANNEL, "to="))
            if (header and len(start) <= MAX_HEADER) and not (final and not start.startswith(("<|", "to="))):
                return False
            self._state, self._header = "content", ""  # plain text without any header
            return True
        self._header, self._held = self._held[: at + len(MESSAGE)], self._held[at + len(MESSAGE) :]
        name = RECIPIENT.search(self._header)
        self._state = "call" if name and name[1] in self._tools else "content"
        if self._state == "content" and f"{CHANNEL}analysis" in self._header:
            self._state = "analysis"
        return True

    def _read_body(self, chunks: list[Chunk], final: bool) -> bool:
        found = FIND_END.search(self._held)
        size = found.start() if found else len(self._held) - (0 if final else held_back(self._held, *ENDS))
        self._pass(self._held[:size], chunks)
        self._held = self._held[size:]
        if found is None:
            return False
        if found.group() not in (START, CHANNEL):
            self._held = self._held[len(found.group()) :]
        if self._state == "call":
            chunks += self._end_call()
        self._state = "header"
        return True

    def _pass(self, text: str, chunks: list[Chunk]) -> None:
        if not text:
            return
        if self._state == "call":
            self._body.append(text)
        else:
            chunks.append(Chunk(thinking=text) if self._state == "analysis" else Chunk(content=text))

    def _end_call(self) -> list[Chunk]:
        text, self._body = "".join(self._body), []
        self._state = "header"
        name = RECIPIENT.search(self._header)
        known = name[1] if name else ""
        arguments = read_arguments(text, self._tools.get(known, {}).get("properties") or ())
        if arguments is None:
            return [Chunk(content=self._header + text)]
        return [Chunk(tool_calls=self._counter.number([(known, arguments)]))]
