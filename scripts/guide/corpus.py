# ruff: noqa: E501 - tables of sentences
"""The whole corpus in its proportions, made anew and alike from a seed.

Single questions, conversations of several turns, system messages of all sorts, and a fifth with a thought first.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

from guide import corpus_chat, corpus_copy, corpus_facts, corpus_first, corpus_json, corpus_tools, facts, toolbox, words
from guide.facts import LANGUAGES, Fact
from guide.prompt import Conversation, Message

SYSTEMS = (
    "You are a helpful assistant.", "You are a helpful assistant.", "You are a helpful AI assistant. Be brief.", "Be concise.", "You are an assistant.",
    "Answer in one sentence.", "You are a friendly chatbot.", "You are an expert.", "Be polite and honest.", "You are a support agent for a software company.",
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.", "Today is a good day.",
    "Eres un asistente útil.", "Eres un asistente amable. Responde con brevedad.", "Sé breve.", "Eres un experto.", "Responde con educación.", "S!",
    "You are a helpful assistant with access to tools.", "Use the tools when you need them.", "Usa las herramientas si hacen falta.",
)  # fmt: skip
THINKING = 0.2
FACT_ROUNDS = 120
"""How often each fact is asked in each language."""

Maker = Callable[[str, random.Random], Conversation]


class Mixture:
    """Draws single talks; the facts come round evenly."""

    def __init__(self, known: list[Fact], seed: str) -> None:
        self.known, self.rng = known, random.Random(seed)

    def fact(self, lang: str, rng: random.Random) -> Conversation:
        return corpus_facts.conversation(rng.choice(self.known), lang, rng)

    def any(self, lang: str, rng: random.Random) -> Conversation:
        makers: tuple[Maker, ...] = (
            self.fact, self.fact, self.fact, corpus_chat.chat, corpus_chat.unknown, corpus_first.conversation, _copy,
        )  # fmt: skip
        return rng.choice(makers)(lang, rng)


def training(seed: int, scale: float = 1.0) -> list[Conversation]:
    mixture = Mixture(facts.load(), f"{seed}/mixture")
    talks = [talk for part in _parts(mixture, seed, scale) for talk in part]
    rng = random.Random(f"{seed}/dress")
    for talk in talks:
        _dress(talk, rng)
    random.Random(f"{seed}/order").shuffle(talks)
    return talks


def _parts(mixture: Mixture, seed: int, scale: float) -> Iterator[list[Conversation]]:
    def several(name: str, count: int, make: Callable[[str, random.Random], Conversation]) -> list[Conversation]:
        rng = random.Random(f"{seed}/{name}")
        return [make(rng.choice(LANGUAGES), rng) for _ in range(int(count * scale))]

    rng = random.Random(f"{seed}/facts")
    rounds = max(4, int(FACT_ROUNDS * scale))
    begun = corpus_facts.beginnings(mixture.known)
    yield [
        corpus_facts.conversation(
            fact, lang, rng, begun[fact.name, lang] if number and rng.random() < corpus_facts.CUT_SHARE else ""
        )
        for number in range(rounds)
        for fact in mixture.known
        for lang in LANGUAGES
    ]
    yield several("chat", 7000, corpus_chat.chat)
    yield several("first", 9000, corpus_first.conversation)
    yield several("unknown", 10000, corpus_chat.unknown)
    yield several("copy", 7000, _copy)
    yield several("memory", 3000, _memory)
    yield several("json", 6000, lambda lang, rng: corpus_json.conversation(rng))
    yield several("tools", 6500, lambda lang, rng: corpus_tools.conversation(rng))
    yield several("tools in vain", 700, lambda lang, rng: _in_vain(mixture, lang, rng))
    yield several("turns", 3500, lambda lang, rng: _turns(mixture, lang, rng, rng.choice((2, 2, 3, 4))))
    yield several("long", 150, lambda lang, rng: _turns(mixture, lang, rng, rng.randint(8, 22)))


def _copy(lang: str, rng: random.Random) -> Conversation:
    return corpus_copy.repeat(lang, rng, held=False)


def _memory(lang: str, rng: random.Random) -> Conversation:
    if rng.random() < 0.12:
        return corpus_copy.nameless(lang, rng)
    first, last = corpus_copy.introduction(lang, rng, held=False)
    return Conversation("memory", first + last)


def _in_vain(mixture: Mixture, lang: str, rng: random.Random) -> Conversation:
    plain = corpus_chat.greeting(lang, rng) if rng.random() < 0.4 else mixture.fact(lang, rng)
    return corpus_tools.conversation(rng, plain=plain)


def _turns(mixture: Mixture, lang: str, rng: random.Random, count: int) -> Conversation:
    """Several talks in one conversation, sometimes around a thing that is told first and asked for last."""
    messages: list[Message] = []
    for _ in range(count):
        spoken = lang if rng.random() < 0.8 else rng.choice(LANGUAGES)
        messages += mixture.any(spoken, rng).messages
    if rng.random() < 0.45:
        first, last = corpus_copy.introduction(lang, rng, held=False)
        messages = first + messages + last
    return Conversation("turns", messages)


def _dress(talk: Conversation, rng: random.Random) -> None:
    """A system message for some, a thought for some; earlier thoughts are mostly gone, as clients drop them."""
    if talk.messages[0].role != "system" and rng.random() < 0.25:
        talk.messages.insert(0, Message("system", rng.choice(SYSTEMS)))
    talk.think = rng.random() < THINKING
    if not talk.think:
        return
    talk.compact = True
    answers = [message for message in talk.messages if message.role == "assistant"]
    if rng.random() < 0.8:
        for message in answers[:-1]:
            message.thought = ""


def copied_words() -> set[str]:
    """Words that answers copy out of questions, tools and schemas."""
    rows = " ".join([*toolbox.NOUNS, *toolbox.VERBS, *toolbox.PARAMETERS, *corpus_json.FIELDS])
    return {*words.WORDS, *" ".join([*words.NAMES, *words.CITIES]).split(), *rows.replace(":", " ").split()}


def census(talks: list[Conversation]) -> dict[str, int]:
    return dict(sorted(Counter(talk.kind for talk in talks).items()))
