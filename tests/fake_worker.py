"""A worker without a model: answers deterministic tokens, and crashes, hangs or dawdles when told to.

It speaks ``server.messages`` like the real one. How it loads is read from the "weights" file, a JSON object:
``seconds`` (loading time), ``steps`` (progress reports), ``fail`` ("memory" or "model"), ``crash``, ``stall``,
``num_ctx``, ``num_parallel``, ``kv``, ``max_ctx`` (a larger window fails for lack of memory), ``warn``.
A prompt is a line of commands: ``count N`` tokens, ``slow S`` seconds per step, ``crash N`` / ``hang N`` /
``error N`` / ``exit N`` after N tokens. Tokens are ``<id>:0 <id>:1 …`` with the words after ``say``.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server import messages as m
from server.types import (
    ChatPrompt,
    Chunk,
    Embeddings,
    Final,
    Generation,
    Loaded,
    MemoryUse,
    RunnerStats,
)

PROBE = {
    "devices": [{"name": "CPU", "description": "fake", "kind": "cpu", "free": 1 << 30, "total": 1 << 30}],
    "system_info": "fake",
    "build": "cpu",
}


@dataclass
class Job:
    id: int
    word: str
    count: int = 5
    slow: float = 0.0
    crash: int = -1
    hang: int = -1
    error: int = -1
    leave: int = -1
    sent: int = 0


@dataclass
class Worker:
    sock: socket.socket
    behaviour: dict[str, Any] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    pending: bytes = b""
    steps: int = 0
    output: int = 0
    slots: int = 4

    def send(self, record: m.Record) -> None:
        self.sock.sendall(m.encode(record))

    def receive(self, timeout: float | None) -> list[m.Record]:
        """Every whole frame that has come; waits ``timeout`` (None = for ever) for the first byte."""
        if not select.select([self.sock], [], [], timeout)[0]:
            return []
        data = self.sock.recv(1 << 20)
        if not data:
            sys.exit(0)
        self.pending += data
        records = []
        while len(self.pending) >= 4:
            (total,) = struct.unpack_from("<I", self.pending)
            if len(self.pending) < 4 + total:
                break
            records.append(m.decode(self.pending[4 : 4 + total]))
            self.pending = self.pending[4 + total :]
        return records

    # -- loading ----------------------------------------------------------------------------------------

    def load(self, load: m.Load) -> None:
        text = Path(load.weights).read_bytes()
        behaviour = json.loads(text) if text.startswith(b"{") else {}
        self.behaviour = behaviour
        print(f"fake worker {os.getpid()} loads", file=sys.stderr, flush=True)
        steps = behaviour.get("steps", 2)
        for step in range(steps):
            time.sleep(behaviour.get("seconds", 0.0) / steps)
            self.send(m.Loading((step + 1) / steps))
        if behaviour.get("stall"):
            time.sleep(3600)
        if behaviour.get("crash"):
            os.kill(os.getpid(), signal.SIGKILL)
        window = load.options.num_ctx or 4096
        if behaviour.get("fail") or window > behaviour.get("max_ctx", 1 << 60):
            kind = behaviour.get("fail", "memory")
            self.send(m.LoadFailed(kind, f"the model could not be loaded: {kind}"))
            sys.exit(1)
        if "warn" in behaviour:
            self.send(m.Warn(behaviour["warn"]))
        self.slots = load.options.num_parallel or 4
        memory = MemoryUse(weights=behaviour.get("weights", 1000), kv=behaviour.get("kv", 100), compute=10)
        self.send(
            m.Ready(
                Loaded(
                    num_ctx=behaviour.get("num_ctx", window),
                    num_parallel=self.slots,
                    vocabulary=256,
                    memory=memory,
                    trained_ctx=behaviour.get("trained_ctx", 8192),
                    embedding_width=4,
                    pooling="mean",
                    load_ns=1,
                )
            )
        )

    # -- requests ---------------------------------------------------------------------------------------

    def handle(self, record: m.Record) -> None:
        match record:
            case m.Load():
                self.load(record)
            case m.Generate(request, generation):
                self.jobs[request] = job(request, generation)
            case m.Abort(request):
                self.jobs.pop(request, None)
            case m.Embed(request, inputs):
                if "crash" in inputs:
                    os.kill(os.getpid(), signal.SIGSEGV)
                rows = array.array("f", [float(len(text)) for text in inputs for _ in range(4)])
                self.send(m.Embedded(request, Embeddings(rows.tobytes(), len(inputs), 4, sum(map(len, inputs)))))
            case m.Tokenize(request, text):
                self.send(m.Tokens(request, tuple(text.encode())))
            case m.Detokenize(request, tokens):
                self.send(m.Text(request, bytes(tokens).decode("utf-8", "replace")))
            case m.Ping(request):
                running = min(len(self.jobs), self.slots)
                self.send(
                    m.Pong(
                        request,
                        RunnerStats(
                            running=running,
                            waiting=len(self.jobs) - running,
                            slots=self.slots,
                            steps=self.steps,
                            output_tokens=self.output,
                        ),
                    )
                )
            case m.Shutdown():
                time.sleep(self.behaviour.get("shutdown", 0.0))
                sys.exit(0)

    def step(self) -> None:
        chunks = []
        self.steps += 1
        time.sleep(max(job.slow for job in self.jobs.values()))
        for job in list(self.jobs.values())[: self.slots]:
            if job.sent == job.crash:
                os.kill(os.getpid(), signal.SIGKILL)
            if job.sent == job.leave:
                os._exit(3)
            if job.sent == job.hang:
                time.sleep(3600)
            if job.sent == job.error:
                self.send(m.Failed(job.id, "internal", f"request of {job.word} failed"))
                del self.jobs[job.id]
                continue
            if job.sent < job.count:
                chunks.append((job.id, Chunk(content=f"{job.word}:{job.sent} ")))
                job.sent += 1
                self.output += 1
            if job.sent >= job.count:
                chunks.append((job.id, Chunk(final=Final("stop", prompt_tokens=1, output_tokens=job.sent))))
                del self.jobs[job.id]
        if chunks:
            self.send(m.Step(tuple(chunks)))


def job(request: int, generation: Generation) -> Job:
    prompt = generation.prompt
    text = prompt.messages[-1].content if isinstance(prompt, ChatPrompt) else prompt.prompt
    made = Job(request, str(request))
    words = text.split()
    for name, value in zip(words[::2], words[1::2], strict=False):
        match name:
            case "count" | "crash" | "hang" | "error":
                setattr(made, name, int(value))
            case "exit":
                made.leave = int(value)
            case "slow":
                made.slow = float(value)
            case "say":
                made.word = value
    if generation.limits.num_predict > 0:
        made.count = min(made.count, generation.limits.num_predict)
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    parser.add_argument("--probe", action="store_true")
    given = parser.parse_args()
    if given.probe:
        print(json.dumps(PROBE))
        return
    worker = Worker(socket.socket(fileno=given.fd))
    while True:
        for record in worker.receive(0.0 if worker.jobs else None):
            worker.handle(record)
        if worker.jobs:
            worker.step()


if __name__ == "__main__":
    main()
