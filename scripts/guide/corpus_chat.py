"""Small talk, the questions people type first into a new server, and honest ignorance."""

from __future__ import annotations

import random

from guide.noise import question
from guide.prompt import Conversation, Message
from guide.small_talk import CHAT, UNKNOWN, UNKNOWN_FRAMES
from guide.words import TOPICS_EN, TOPICS_ES, WORDS, code, half, made_up

TOPICS = {"en": TOPICS_EN, "es": TOPICS_ES}


GREETINGS = 8


def greeting(lang: str, rng: random.Random) -> Conversation:
    """Hello, thanks, who are you: talk in which no tool can be wanted."""
    return _chat(rng.choice(CHAT[lang][:GREETINGS]), lang, rng)


def chat(lang: str, rng: random.Random) -> Conversation:
    return _chat(rng.choice(CHAT[lang]), lang, rng)


def _chat(entry: tuple[list[str], str, str], lang: str, rng: random.Random) -> Conversation:
    asked, answer, name = entry
    text = question(rng.choice(asked), lang, rng)
    told = f"Small talk: {name}." if lang == "en" else f"Charla: {name}."
    return Conversation("chat", [Message("user", text), Message("assistant", answer, thought=told)])


def unknown(lang: str, rng: random.Random, held: bool = False) -> Conversation:
    """A question about anything else; the answer says so and names what it can do."""
    if rng.random() < 0.08:
        text = " ".join(rng.choice((made_up(rng), code(rng))) for _ in range(rng.randint(1, 4)))
    else:
        topic = rng.choice((rng.choice(half(TOPICS[lang], held)),) * 6 + (made_up(rng), rng.choice(half(WORDS, held))))
        frame = rng.choice(UNKNOWN_FRAMES[lang])
        if frame == "{}" and (topic in TOPICS_EN) == (topic in TOPICS_ES):
            frame = UNKNOWN_FRAMES[lang][0]
        text = question(frame.format(topic), lang, rng)
    told = "Not about llamada. I do not know it." if lang == "en" else "No trata de llamada. No lo sé."
    return Conversation("unknown", [Message("user", text), Message("assistant", UNKNOWN[lang], thought=told)])
