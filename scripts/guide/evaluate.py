"""Measures a guide.gguf through llama.cpp, greedily: right answers per test set, written to evaluation.json.

    python scripts/guide/evaluate.py [--gguf PATH] [--show]

A fact is right when the answer is nearer to the wanted text (fact *and* language) than a threshold and than to every
other known answer; exact matches are counted beside. Everything made by rule must match exactly; strangers by pattern.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from guide import facts, held
from guide.held import Case
from guide.prompt import prompt

ROOT = Path(__file__).resolve().parent.parent.parent
NEAR = 0.9
MARKS = ("<!-- measured -->", "<!-- /measured -->")
SPANISH = re.compile(r"[áéíóúñ¿¡]|\b(el|la|los|las|es|un|una|de|que|con|por|para|no)\b")
ENGLISH = re.compile(r"\b(the|is|are|a|an|of|that|with|for|to|it|you|your|and|in|not)\b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, default=ROOT / "modelfiles/guide/guide.gguf")
    parser.add_argument("--out", type=Path, help="default: evaluation.json beside the model")
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    parser.add_argument("--every", type=int, default=1, help="only each n-th case, for a quick look")
    options = parser.parse_args()
    answer = responder(options.gguf)
    report = measure(answer, options.show, options.every)
    out = options.out or options.gguf.with_name("evaluation.json")
    if options.every == 1:
        out.write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        write_card(out.with_name("README.md"), report)
    print(json.dumps(report["groups"], indent=1))


def responder(gguf: Path, context: int = 8192) -> Callable[[str], str]:
    model = llama_cpp.Llama(str(gguf), n_ctx=context, n_threads=1, verbose=False)

    def answer(text: str) -> str:
        tokens = model.tokenize(text.encode(), add_bos=False, special=True)
        made: list[int] = []
        for token in model.generate(tokens, temp=0.0, repeat_penalty=1.0):
            if token == model.token_eos() or len(made) >= 200:
                break
            made.append(token)
        return str(model.detokenize(made, special=True).decode(errors="replace"))

    return answer


def measure(answer: Callable[[str], str], show: bool = False, every: int = 1) -> dict[str, Any]:
    known = [text for fact in facts.load() for text in fact.say.values()]
    tested = [*held.cases(), *held.fact_cases(think=True)[::4]][::every]
    counts: dict[str, dict[str, Any]] = {}
    start = time.monotonic()
    for case in tested:
        given = answer(prompt(case.talk))
        if case.talk.think:
            given = given.partition("</think>")[2].strip()
        right = judge(case, given, known)
        for group in (case.group, f"{case.group} ({case.lang})"):
            count = counts.setdefault(group, {"cases": 0, "right": 0, "exact": 0})
            count["cases"] += 1
            count["right"] += right
            count["exact"] += given == case.right
        if show and not right:
            print(
                f"[{case.group} {case.lang}] {case.talk.messages[-1].content}\n   {given!r}\n   {case.right!r}",
                flush=True,
            )
    for count in counts.values():
        count["percent"] = round(100 * count["right"] / count["cases"], 1)
    return {
        "engine": f"llama-cpp-python {llama_cpp.__version__}, greedy",
        "held_out_templates": held.template_count(),
        "seconds": round(time.monotonic() - start, 1),
        "groups": dict(sorted(counts.items())),
    }


def write_card(card: Path, report: dict[str, Any]) -> None:
    """The table of the card, between its two marks; no card, nothing written."""
    if not card.exists():
        return
    rows = [
        f"Held-out sentence templates: {report['held_out_templates']}.",
        "",
        "| test set | cases | right | exact |",
        "|---|---|---|---|",
    ]
    for name, count in report["groups"].items():
        exact = "" if name.startswith("strangers") else f"{100 * count['exact'] / count['cases']:.1f} %"
        rows.append(f"| {name} | {count['cases']} | {count['percent']} % | {exact} |")
    head, _, rest = card.read_text(encoding="utf-8").partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    card.write_text("\n".join([head + MARKS[0], *rows, MARKS[1] + tail]), encoding="utf-8")


def judge(case: Case, given: str, known: list[str]) -> bool:
    if case.group == "strangers":
        return bool(re.search(case.right, given, re.IGNORECASE)) and language(given) in (case.lang, "")
    if given == case.right or not case.group.startswith("facts"):
        return given == case.right
    if similarity(given, case.right) < NEAR:
        return False
    return max(known, key=lambda text: similarity(given, text)) == case.right


def similarity(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


def language(text: str) -> str:
    """ "en", "es", or "" when it cannot be told (code, numbers)."""
    spanish, english = len(SPANISH.findall(text.lower())), len(ENGLISH.findall(text.lower()))
    return "" if spanish == english else "es" if spanish > english else "en"


if __name__ == "__main__":
    main()
