"""Questions about llamada: every fact in many phrasings, and the phrasings kept back for the test."""

from __future__ import annotations

import random

from guide.facts import LANGUAGES, Fact
from guide.fillers import around
from guide.frames import HELD, LEAD, LEAD_HELD, TAIL, TAIL_HELD, TRAIN
from guide.noise import question
from guide.prompt import Conversation, Message

BARE_SHARE = 0.08
LOOSE_SHARE = 0.4
"""Questions that are no sentences: the phrase among random common words, so that frames never seen do not matter."""

CUT_SHARE = 0.75
"""Answers of which only the beginning is learned, up to where it is no other fact's: the rest needs few repeats."""

BEYOND = 2


def phrase(fact: Fact, lang: str, rng: random.Random) -> str:
    """A training question for the fact: a frame around one of its phrases, or one of its own questions."""
    kinds = [kind for kind in ("np", "do", "ask") for _ in range(len(getattr(fact, kind)[lang]))]
    kind = rng.choice(kinds)
    text = rng.choice(getattr(fact, kind)[lang])
    both = text in fact.np["en"] and lang == "es"
    if kind == "np" and not both and rng.random() < BARE_SHARE:
        return str(text)
    framed = around(text, lang, rng) if rng.random() < LOOSE_SHARE else rng.choice(TRAIN[lang][kind]).format(text)
    asked = question(framed, lang, rng)
    if rng.random() < 0.12:
        asked = asked.lower()
    return dress(asked, lang, rng, LEAD[lang], TAIL[lang])


def dress(asked: str, lang: str, rng: random.Random, leads: list[str], tails: list[str]) -> str:
    """Something said before or after the question."""
    if rng.random() < 0.2:
        asked = f"{rng.choice(leads)} {asked}"
    if rng.random() < 0.12:
        asked = f"{asked.rstrip('?')} {rng.choice(tails)}"
    return asked


def conversation(fact: Fact, lang: str, rng: random.Random, beginning: str = "") -> Conversation:
    """``beginning``: all that is learned of the answer; "" = the whole."""
    asked, answer = phrase(fact, lang, rng), beginning or fact.say[lang]
    told = Message("assistant", answer, thought=thought(fact, lang), cut=bool(beginning))
    return Conversation("facts", [Message("user", asked), told])


def beginnings(facts: list[Fact]) -> dict[tuple[str, str], str]:
    """(name, language) → the first words of the answer: those that tell it from all others, and ``BEYOND`` more.

    "" where these are the whole answer.
    """
    found = {}
    for lang in LANGUAGES:
        answers = {fact.name: fact.say[lang].split(" ") for fact in facts}
        for name, words in answers.items():
            shared = max(_shared(words, other) for known, other in answers.items() if known != name)
            count = shared + 1 + BEYOND
            found[name, lang] = " ".join(words[:count]) if count < len(words) else ""
    return found


def _shared(a: list[str], b: list[str]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def thought(fact: Fact, lang: str) -> str:
    topic = fact.name.partition(" ")[2] if fact.name.split(" ")[0] in PREFIXES else fact.name
    if lang == "en":
        return f"A question about llamada, in English. Topic: {topic}."
    return f"Una pregunta sobre llamada, en español. Tema: {topic}."


PREFIXES = ("command", "variable", "option", "route", "instruction", "slash")


def held_out(facts: list[Fact], seed: str) -> list[tuple[Fact, str, str]]:
    """(fact, language, question): every held-out frame with four facts, and every held-out question as it is."""
    rng = random.Random(seed)
    made = []
    for lang in ("en", "es"):
        for kind in ("np", "do", "ask"):
            able = [fact for fact in facts if getattr(fact, kind)[lang]]
            for frame in HELD[lang][kind]:
                for fact in rng.sample(able, 4):
                    text = frame.format(rng.choice(getattr(fact, kind)[lang]))
                    asked = dress(question(text, lang, rng), lang, rng, LEAD_HELD[lang], TAIL_HELD[lang])
                    made.append((fact, lang, asked))
        made += [(fact, lang, asked) for fact in facts for asked in fact.held[lang]]
    return made
