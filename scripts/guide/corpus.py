"""The whole corpus in its proportions, made anew and alike from a seed."""

from __future__ import annotations

import random
from collections import Counter

from guide import corpus_chat, corpus_facts, corpus_tools, facts
from guide.prompt import Conversation


def training(seed: int, scale: float = 1.0) -> list[Conversation]:
    known = facts.load()
    rng = random.Random(f"{seed}/facts")
    talks = []
    for _ in range(max(10, int(60 * scale))):
        talks += [corpus_facts.conversation(fact, lang, rng) for fact in known for lang in ("en", "es")]
    rng = random.Random(f"{seed}/chat")
    talks += [corpus_chat.chat(rng.choice(("en", "es")), rng) for _ in range(int(8000 * scale))]
    talks += [corpus_chat.unknown(rng.choice(("en", "es")), rng) for _ in range(int(12000 * scale))]
    rng = random.Random(f"{seed}/tools")
    talks += [corpus_tools.conversation(rng) for _ in range(int(14000 * scale))]
    rng = random.Random(f"{seed}/think")
    for talk in talks:
        talk.think = rng.random() < 0.2
    random.Random(f"{seed}/order").shuffle(talks)
    return talks


def census(talks: list[Conversation]) -> dict[str, int]:
    return dict(sorted(Counter(talk.kind for talk in talks).items()))
