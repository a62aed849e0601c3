"""Each known format: its Go template writes what its Jinja writes, and it is found by a text near that."""

from __future__ import annotations

import random
import time

import pytest

from modelfiles.gotemplate import Template
from modelfiles.known_templates import KNOWN, NEAR, Known, autodetect, distance
from modelfiles.render import render_chat

TURNS = [{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "V"}]
SYSTEM = {"role": "system", "content": "S"}
# Formats whose Jinja has no place for a system text; their Go templates put it before the first question.
WITHOUT_SYSTEM = {"gemma-instruct", "mistral-instruct"}


@pytest.mark.parametrize("known", KNOWN, ids=lambda k: k.name)
def test_both_languages_write_the_same(known: Known) -> None:
    for messages in ([*TURNS[:1]], TURNS, [SYSTEM, *TURNS]):
        if messages[0] is SYSTEM and known.name in WITHOUT_SYSTEM:
            continue
        jinja = render_chat(known.jinja, "jinja", messages, bos="<s>", eos="</s>").removeprefix("<s>")
        assert render_chat(known.go, "go", messages) == jinja


@pytest.mark.parametrize("name", sorted(WITHOUT_SYSTEM))
def test_system_goes_before_the_first_question(name: str) -> None:
    known = next(k for k in KNOWN if k.name == name)
    merged = [{"role": "user", "content": "S\n\nU"}, *TURNS[1:]]
    assert render_chat(known.go, "go", [SYSTEM, *TURNS]) == render_chat(known.go, "go", merged)


@pytest.mark.parametrize("known", KNOWN, ids=lambda k: k.name)
def test_found_by_its_own_text_and_near_it(known: Known) -> None:
    Template.parse(known.go)
    assert autodetect(known.jinja) == (known.name, known.go, {"stop": list(known.stop)})
    assert autodetect(known.jinja + "{# a remark #}") == (known.name, known.go, {"stop": list(known.stop)})
    assert autodetect(known.jinja + "{# " + "a long remark " * 10 + "#}") is None


def test_other_tokens_are_another_format() -> None:
    """As near as can be, but what it writes is something else."""
    chatml = KNOWN[0]
    for other in (chatml.jinja.replace("<|im_end|>", "<|eot|>"), chatml.jinja.replace("im_start", "im_begin")):
        assert distance(chatml.jinja, other) < NEAR
        assert autodetect(other) is None
    assert autodetect("") is None


def slow(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for k, y in enumerate(b, 1):
            before, row[k] = row[k], min(row[k] + 1, row[k - 1] + 1, before + (x != y))
    return row[-1]


def test_distance() -> None:
    chance = random.Random(1)
    for _ in range(300):
        a, b = ("".join(chance.choices("abc", k=chance.randint(0, 12))) for _ in range(2))
        assert distance(a, b) == slow(a, b)
    assert distance("kitten", "sitting") == 3


def test_quick_with_long_texts() -> None:
    start = time.process_time()
    for length in (300, 600, 5000, 100_000):
        autodetect("<|im_start|><|im_end|>" + "x" * length)
    assert time.process_time() - start < 0.5
