"""The verify gate: does a GGUF say what its checkpoint says?

It loads in llama.cpp; its tokenizer cuts the torture text as the original does; its logits are those of transformers;
a greedy chat is the same, token by token. Checks that need a package which is not installed are named as skipped.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.checkpoint import Checkpoint
from converters.errors import ConversionFailed, VerificationFailed
from converters.gguf.pretokenizers import APPROXIMATE as BY_CASE
from converters.gguf.pretokenizers import LATIN_END
from converters.torture import TORTURE
from modelfiles.errors import GGUFError
from modelfiles.gguf import check_loadable, read_header

Array = NDArray[np.float32]
MISSING = "{} is not installed: pip install 'llamada[train]'"
# Mean KL divergence (nats per token) up to which weights of this type are taken for the same model. What a wrong
# conversion does is far beyond: a permutation that is missing costs more than 0.1 even for random weights.
KL_LIMITS = {"F32": 1e-5, "F16": 1e-4, "BF16": 5e-3, "Q8_0": 0.05, "Q6_K": 0.1}
KL_LIMIT = 1.0
EXPERTS_FACTOR = 10  # near ties of a router flip
COSINES = {"F32": 0.9999, "F16": 0.9995, "BF16": 0.999, "Q8_0": 0.995}
COSINE = 0.9
# llama.cpp's WordPiece and unigram do not compose and cut every script as the originals do; Latin text must be equal.
APPROXIMATE = ("bert", "t5")
EXACT = ("F32", "F16", "BF16")
CHAT = "Tell me in one sentence what a lighthouse is for."
NEW_TOKENS = 16
PROBE_TOKENS = 192


@dataclass(slots=True)
class Findings:
    """``numbers`` measured, ``skipped`` with reasons, ``failed`` with what is wrong."""

    numbers: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        return {"verified": not self.failed, **self.numbers, "skipped": self.skipped}


def verify(folder: Path, path: Path) -> dict[str, Any]:
    """Runs the gate in a process of its own. VerificationFailed with every reason when it is not passed."""
    return _in_a_child("--in", str(folder), "--gguf", str(path))


def verify_adapter(base: Path, adapter: Path) -> dict[str, Any]:
    return _in_a_child("--adapter", str(adapter), "--gguf", str(base))


def _in_a_child(*options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "converters", "verify", "--leash", *options]
    # Its standard input is a pipe that ends with this process, and the child with it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stderr
        with ThreadPoolExecutor(1) as reader:  # both pipes are read at once, or a chatty child would wait for ever
            complaints = reader.submit(child.stderr.read)
            last = child.stdout.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        status = child.wait()
    told = json.loads(last) if last.startswith("{") else {}
    if "error" in told:
        raise VerificationFailed(told["error"])
    if "result" not in told:
        tail = complaints.result().decode("utf-8", "replace").strip()[-300:]
        why = f"it was ended by signal {-status}" if status < 0 else tail
        raise VerificationFailed(f"llama.cpp could not be run on the result: {why}")
    result: dict[str, Any] = told["result"]
    return result


def leash() -> None:
    """End this process when its standard input does: its parent is gone then."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def check(folder: Path, path: Path) -> Findings:
    """The gate itself, in this process."""
    from converters.gguf.evaluate import Loaded

    findings = Findings()
    try:
        header = read_header(path)
        check_loadable(header)
    except GGUFError as error:
        findings.failed["loads"] = str(error)
        return findings
    checkpoint = Checkpoint.open(folder)
    try:
        model = Loaded(path)
    except ConversionFailed as error:
        findings.failed["loads"] = error.message
        return findings
    with model:
        findings.numbers["loads"] = True
        kind, pre = (header.text(f"tokenizer.ggml.{name}") or "" for name in ("model", "pre"))
        check_tokenizer(checkpoint, model, findings, approximate=kind in APPROXIMATE or pre in BY_CASE)
        if not installed("torch", "transformers"):
            findings.skipped["logits"] = findings.skipped["chat"] = MISSING.format("torch")
            return findings
        from converters.reference import compare

        compare(checkpoint, header, path, model, findings)
    return findings


def check_adapter(base: Path, adapter: Path) -> Findings:
    """Whether the adapter can be loaded on its base, and by how much it moves the logits."""
    from converters.gguf.evaluate import Loaded

    findings = Findings()
    with Loaded(base) as model:
        tokens = model.tokenize(TORTURE, special=True)[:32]
        before = model.logits(tokens)
        try:
            model.attach(adapter)
        except ConversionFailed as error:
            findings.failed["loads"] = error.message
            return findings
        moved = float(np.abs(model.logits(tokens) - before).max())
    findings.numbers |= {"loads": True, "max_logit_change": rounded(moved)}
    findings.skipped["logits"] = "the original weights of its model are not at hand"
    if not np.isfinite(moved):
        findings.failed["logits"] = "with the adapter the model's answers are no numbers"
    return findings


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


def check_tokenizer(checkpoint: Checkpoint, model: Any, findings: Findings, *, approximate: bool) -> None:
    """Ids of the torture text, with and without what is put around it. ``approximate``: only Latin must be equal."""
    if not (checkpoint.folder / "tokenizer.json").is_file():
        findings.skipped["tokenizer"] = "the checkpoint has no tokenizer.json to compare with"
        return
    if not installed("tokenizers"):
        findings.skipped["tokenizer"] = MISSING.format("tokenizers")
        return
    from tokenizers import Tokenizer

    from converters.gguf.find_pre import as_normalized

    judge = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    judge.no_truncation()
    judge.no_padding()
    text = as_normalized(TORTURE, checkpoint.optional_json("tokenizer.json"))
    count, others = 0, []
    for sample in _lines(text) if approximate else [text]:
        for special in (False, True):
            wanted = list(judge.encode(sample, add_special_tokens=special).ids)
            found = model.tokenize(sample, special=special)
            if found != wanted:
                others.append((sample, _difference(found, wanted, judge)))
                break
        count += len(wanted)
    fatal = [told for sample, told in others if not approximate or max(sample) < LATIN_END]
    if fatal:
        findings.failed["tokenizer"] = fatal[0]
        return
    findings.numbers["tokens"] = count
    if others:
        findings.numbers["tokenizer"] = (
            f"llama.cpp reads {len(others)} lines of other scripts otherwise; {others[0][1]}"
        )


def _lines(text: str) -> list[str]:
    """Without blanks at the ends and control characters, which those tokenizers drop in ways of their own."""
    return ["".join(letter for letter in line if letter.isprintable()).strip() for line in text.splitlines()]


def _difference(found: Sequence[int], wanted: Sequence[int], judge: Any) -> str:
    pairs = zip_longest(found, wanted)
    at = next(i for i, (ours, theirs) in enumerate(pairs) if ours != theirs)
    text = judge.decode(list(wanted[max(0, at - 3) : at + 5]), skip_special_tokens=False)
    return f"token {at} is another one than the original tokenizer's, near {text!r}"


def kl_divergence(reference: Array, found: Array) -> float:
    """Mean over tokens, in nats: how much worse ``found`` predicts what ``reference`` predicts."""
    a, b = log_softmax(reference), log_softmax(found)
    return float((np.exp(a) * (a - b)).sum(-1).mean())


def log_softmax(logits: Array) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    made: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return made


def limit(file_type: str, experts: bool) -> float:
    return KL_LIMITS.get(file_type, KL_LIMIT) * (EXPERTS_FACTOR if experts else 1)


def available_memory() -> int:
    """Bytes that this process may still take."""
    pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return pages * size


def rounded(value: float) -> float:
    """Three digits that count."""
    return value if value == 0 or not math.isfinite(value) else round(value, 2 - math.floor(math.log10(abs(value))))
