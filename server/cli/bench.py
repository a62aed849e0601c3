"""`bench`: how fast a served model answers, as a client sees it: time to the first token and tokens per second.

The campaign beside other servers is scripts/bench; this is the quick look at one machine.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import click

from server.cli.client import Client
from server.cli.context import connect, echo_json, json_flag
from server.cli.errors import CliError
from server.cli.words import table

WORDS = (
    "river stone light paper window garden letter market bridge winter summer silver music ocean forest bread".split()
)
WORDS_PER_TOKEN = 0.7


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer: seconds to its first piece and in all; tokens as the server counted them."""

    first: float
    total: float
    prompt_tokens: int
    tokens: int

    @property
    def rate(self) -> float:
        """Tokens per second after the first one."""
        spent = self.total - self.first
        return (self.tokens - 1) / spent if self.tokens > 1 and spent > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Round:
    clients: int
    prompt_tokens: float
    tokens: int
    first_median: float
    first_worst: float
    stream_rate: float
    total_rate: float


@click.command("bench")
@click.argument("model")
@click.option("--clients", default="1,4", show_default=True, help="How many at once, one round for each")
@click.option("--tokens", type=click.IntRange(2), default=64, show_default=True, help="Of an answer")
@click.option("--prompt", "prompt_tokens", type=click.IntRange(1), default=64, show_default=True, help="Tokens, about")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Answers per client")
@json_flag
def bench_command(model: str, clients: str, tokens: int, prompt_tokens: int, repeat: int, as_json: bool) -> None:
    """Measure how fast MODEL answers. Every prompt is new, so that no cache flatters."""
    counts = parse_counts(clients)
    client = connect()
    client.post("/api/generate", {"model": model, "stream": False})  # loading is not what is measured
    rounds = [measure(client, model, n, tokens, prompt_tokens, repeat) for n in counts]
    if as_json:
        echo_json({"model": model, "rounds": [asdict(r) for r in rounds]})
        return
    header = ["CLIENTS", "PROMPT", "TOKENS", "FIRST TOKEN", "WORST", "TOK/S EACH", "TOK/S ALL"]
    click.echo(table(header, [row(r) for r in rounds]), nl=False)


def parse_counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise CliError("--clients takes whole numbers such as 1,4,16")
    return counts


def row(r: Round) -> list[str]:
    times = [f"{r.first_median * 1000:.0f} ms", f"{r.first_worst * 1000:.0f} ms"]
    return [
        str(r.clients),
        f"{r.prompt_tokens:.0f}",
        str(r.tokens),
        *times,
        f"{r.stream_rate:.1f}",
        f"{r.total_rate:.1f}",
    ]


def measure(client: Client, model: str, clients: int, tokens: int, prompt_tokens: int, repeat: int) -> Round:
    """All clients start together and each asks again as soon as it has its answer."""
    samples: list[Sample] = []
    errors: list[CliError] = []

    def work() -> None:
        try:
            for _ in range(repeat):
                samples.append(ask(client, model, tokens, prompt_tokens))
        except CliError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    if errors:
        raise errors[0]
    return summary(samples, clients, wall)


def summary(samples: list[Sample], clients: int, wall: float) -> Round:
    tokens = sum(s.tokens for s in samples)
    firsts = [s.first for s in samples]
    prompts = statistics.mean(s.prompt_tokens for s in samples)
    each = statistics.median(s.rate for s in samples)
    return Round(clients, prompts, tokens, statistics.median(firsts), max(firsts), each, tokens / wall)


def ask(client: Client, model: str, tokens: int, prompt_tokens: int) -> Sample:
    """``ignore_eos`` is ours alone; another server's answers may be shorter, and are counted as they are."""
    prompt = " ".join(random.choices(WORDS, k=max(1, int(prompt_tokens * WORDS_PER_TOKEN))))
    options: dict[str, Any] = {"num_predict": tokens, "temperature": 0.8, "ignore_eos": True}
    started = time.perf_counter()
    first = 0.0
    final: dict[str, Any] = {}
    for piece in client.stream("/api/generate", {"model": model, "prompt": prompt, "raw": True, "options": options}):
        if not first and (piece.get("response") or piece.get("thinking")):
            first = time.perf_counter() - started
        if piece.get("done"):
            final = piece
    total = time.perf_counter() - started
    counts = int(final.get("prompt_eval_count") or 0), int(final.get("eval_count") or 0)
    return Sample(first or total, total, *counts)
