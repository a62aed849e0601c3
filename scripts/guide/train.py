"""Training of `guide`: Muon for the matrices, AdamW for the rest, one process per core, resumable.

Each process computes the gradient of its own batch and they are averaged (gloo), which on a shared machine is faster
than threads that wait for one another in every matrix product. Losses are counted on the assistant's text alone.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer
from torch import Tensor, nn

from guide.batches import Batch, Example, batches, echo
from guide.model import Guide, Shape

SAVE_EVERY = 180.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`minutes` ends the run early with a complete learning-rate schedule; steps end it otherwise."""

    shape: Shape
    examples: Sequence[Example]
    tokenizer: Tokenizer
    folder: Path
    seed: int = 1
    epochs: int = 1
    minutes: float = 0
    workers: int = 2
    batch: int = 2048
    rate: float = 0.008
    vector_rate: float = 0.002
    echo_steps: int = 160
    echo_rate: float = 0.003


class Muon:
    """Momentum whose update is made orthogonal (Newton-Schulz), matrices of one shape together.

    Each process does its share of the matrices; `add` sums a tensor over the processes.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        rank: int,
        workers: int,
        add: Callable[[Tensor], None],
        number: torch.dtype,
    ) -> None:
        self.momentum, self.decay = 0.95, 0.01
        self.rank, self.workers, self.add, self.number = rank, workers, add, number
        self.groups: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            self.groups.setdefault(parameter.shape, []).append(parameter)
        self.memory = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, rate: float) -> None:
        for shape, group in self.groups.items():
            gradient = torch.stack([parameter.grad for parameter in group if parameter.grad is not None])
            memory = self.memory[shape].mul_(self.momentum).add_(gradient)
            update = torch.zeros_like(gradient)
            own = slice(self.rank, None, self.workers)
            update[own] = orthogonal(gradient[own].add(memory[own], alpha=self.momentum), self.number)
            self.add(update)
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, change in zip(group, update, strict=True):
                parameter.mul_(1 - rate * self.decay).add_(change, alpha=-scale)


def orthogonal(matrices: Tensor, number: torch.dtype) -> Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(number)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        product = x @ x.mT
        x = a * x + (b * product + c * product @ product) @ x
    return (x.mT if tall else x).float()


def train(plan: Plan) -> Guide:
    """Runs `plan.workers` processes and returns the trained network from the last checkpoint."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    meeting = plan.folder / "meeting"
    meeting.unlink(missing_ok=True)
    mp.start_processes(_work, (plan, meeting), nprocs=plan.workers, start_method="fork")
    model = Guide(plan.shape)
    model.load_state_dict(torch.load(plan.folder / "checkpoint.pt", weights_only=True)["model"])
    return model


def schedule(progress: float) -> float:
    """Up over the first tenth, then flat, then down to nearly nothing over the last 60 %."""
    return min(1.0, 0.4 + 6 * progress, max(0.02, (1 - progress) / 0.6))


def echo_share(progress: float) -> float:
    """Half of the batches at first, few from the first quarter on, none in the last third."""
    return max(0.06, 0.5 - 1.76 * progress) if progress < 0.7 else 0.0


def quickest_number() -> torch.dtype:
    """bfloat16 where this processor multiplies it in hardware; where it does not, float32 is fifty times as fast."""
    seconds = {}
    for number in (torch.float32, torch.bfloat16):
        matrix = torch.ones(256, 256, dtype=number)
        matrix @ matrix
        start = time.perf_counter()
        for _ in range(10):
            matrix @ matrix
        seconds[number] = time.perf_counter() - start
    return min(seconds, key=lambda number: seconds[number])


def loss_of(model: Guide, batch: Batch, number: torch.dtype = torch.bfloat16) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=number is torch.bfloat16):
        logits = model(batch.tokens, batch.positions, batch.wanted)
    return F.cross_entropy(logits.float(), batch.targets, reduction="sum")


def _work(rank: int, plan: Plan, meeting: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(plan.seed)
    if plan.workers > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store = dist.FileStore(str(meeting), plan.workers)
        dist.init_process_group(
            "gloo", store=store, rank=rank, world_size=plan.workers, timeout=timedelta(minutes=30)
        )  # fmt: skip
    _Trainer(plan, rank).run()
    if plan.workers > 1:
        dist.destroy_process_group()


class _Trainer:
    def __init__(self, plan: Plan, rank: int) -> None:
        self.plan, self.rank, self.number = plan, rank, quickest_number()
        self.model = Guide(plan.shape)
        matrices = [p for name, p in self.model.named_parameters() if p.ndim == 2 and "embedding" not in name]
        vectors = [p for name, p in self.model.named_parameters() if p.ndim == 1 or "embedding" in name]
        self.muon = Muon(matrices, rank, plan.workers, self._sum, self.number)
        self.adam = torch.optim.AdamW(vectors, plan.vector_rate, (0.9, 0.95), weight_decay=0.0)
        self.step, self.spent, self.lead = 0, 0.0, 0.0
        self.checkpoint = plan.folder / "checkpoint.pt"
        if self.checkpoint.exists():
            self._resume()

    def run(self) -> None:
        plan = self.plan
        start = saved = time.monotonic() - self.spent
        if not self.step:
            self._learn_to_copy()
            self.lead = time.monotonic() - start
        made = [
            batch for epoch in range(plan.epochs)
            for batch in batches(plan.examples, plan.batch, f"{plan.seed}/{epoch}", plan.shape.context)
        ]  # fmt: skip
        total = len(made) // plan.workers
        shown, smooth = time.monotonic(), 0.0
        progress = 0.0
        while self.step < total and progress < 1:
            batch = self._pick(made, progress)
            factor = schedule(progress)
            loss, count = self._step(batch, plan.rate * factor, plan.vector_rate * factor)
            smooth = loss / count if not smooth else 0.9 * smooth + 0.1 * loss / count
            self.step += 1
            self.spent = time.monotonic() - start
            progress = self._agree(max(self.step / total, self._elapsed()))
            now = time.monotonic()
            if self.rank == 0 and now - shown > 15:
                print(f"step {self.step}/{total} {progress:.1%} loss {smooth:.4f} {self.spent:.0f} s", flush=True)
                shown = now
            if self.rank == 0 and now - saved > SAVE_EVERY:
                self._save()
                saved = now
        if self.rank == 0:
            print(f"trained {self.step} steps in {self.spent:.0f} s, loss {smooth:.4f}", flush=True)
            self._save()

    def _elapsed(self) -> float:
        """The share of the time after the lesson in copying that is over."""
        return (self.spent - self.lead) / (self.plan.minutes * 60 - self.lead) if self.plan.minutes else 0.0

    def _pick(self, made: Sequence[Batch], progress: float) -> Batch:
        """The next batch; some are still echoes, or the network forgets how to copy before it learns when to."""
        rng = random.Random(f"{self.plan.seed}/{self.step}/{self.rank}")
        if rng.random() < echo_share(progress):
            return echo(self.plan.tokenizer, self.plan.batch, rng)
        return made[self.step * self.plan.workers + self.rank]

    def _learn_to_copy(self) -> None:
        """A gentle beginning: copying comes first, since tools and JSON stand on it (see `induction`)."""
        rng = random.Random(f"{self.plan.seed}/echo/{self.rank}")
        start = time.monotonic()
        for step in range(self.plan.echo_steps):
            rate = self.plan.echo_rate * min(1.0, (step + 1) / 10)
            loss, count = self._step(echo(self.plan.tokenizer, self.plan.batch, rng), rate, rate / 3)
            if self.rank == 0 and step % 20 == 19:
                print(f"echo {step + 1} loss {loss / count:.4f} {time.monotonic() - start:.0f} s", flush=True)

    def _step(self, batch: Batch, rate: float, vector_rate: float) -> tuple[float, int]:
        loss = loss_of(self.model, batch, self.number)
        loss.backward()
        count = torch.tensor([float(len(batch.targets)), loss.item()])
        self._sum(count)
        flat = torch.cat([p.grad.reshape(-1) for p in self.model.parameters() if p.grad is not None])
        self._sum(flat)
        flat /= count[0]
        flat *= min(1.0, 1.0 / (float(flat.norm()) + 1e-6))
        offset = 0
        for parameter in self.model.parameters():
            size = parameter.numel()
            parameter.grad = flat[offset : offset + size].view_as(parameter)
            offset += size
        self.muon.step(rate)
        for group in self.adam.param_groups:
            group["lr"] = vector_rate
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        return float(count[1]), int(count[0])

    def _sum(self, tensor: Tensor) -> None:
        if self.plan.workers > 1:
            dist.all_reduce(tensor)

    def _agree(self, progress: float) -> float:
        """Every process must see the same progress, or they would part at the end: the first one's clock counts."""
        value = torch.tensor([progress])
        if self.plan.workers > 1:
            dist.broadcast(value, 0)
        return float(value)

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(), "adam": self.adam.state_dict(), "muon": list(self.muon.memory.values()),
            "step": self.step, "spent": self.spent, "lead": self.lead,
        }  # fmt: skip
        new = self.checkpoint.with_suffix(".new")
        torch.save(state, new)
        new.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        for memory, kept in zip(self.muon.memory.values(), state["muon"], strict=True):
            memory.copy_(kept)
        self.step, self.spent, self.lead = state["step"], state["spent"], state["lead"]
