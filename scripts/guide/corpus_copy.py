# ruff: noqa: E501 - tables of sentences
"""Copying, spelling and remembering: the habits of attention that tools and JSON rest on."""

from __future__ import annotations

import random

from guide.noise import question
from guide.prompt import Conversation, Message
from guide.toolbox import MAKERS
from guide.words import CITIES, NAMES, WORDS, half, made_up

REPEAT = {
    "en": ("repeat after me: {}", "repeat: {}", "say {}", "say exactly: {}", "write {}", "echo {}", "copy this: {}", "repeat the words {}", "please repeat {}", "say the words {}", "print {}", "reply with {}", "reply only with {}", "just say {}"),
    "es": ("repite conmigo: {}", "repite: {}", "di {}", "di exactamente: {}", "escribe {}", "copia esto: {}", "repite las palabras {}", "por favor repite {}", "responde con {}", "responde solo {}", "solo di {}"),
}  # fmt: skip
SPELL = {
    "en": ("spell {}", "spell the word {}", "how do you spell {}", "can you spell {}"),
    "es": ("deletrea {}", "deletrea la palabra {}", "cómo se deletrea {}"),
}
INTRODUCE = {
    "en": (
        "my name is {}",
        "i am {}",
        "hi, my name is {}",
        "hello, i'm {}",
        "call me {}",
        "i'm {}",
        "you can call me {}",
    ),
    "es": ("me llamo {}", "soy {}", "hola, me llamo {}", "mi nombre es {}", "llámame {}", "hola, soy {}"),
}
WELCOME = {"en": "Nice to meet you, {}!", "es": "¡Encantado, {}!"}
WHO_AM_I = {
    "en": (
        "what is my name",
        "what's my name",
        "do you remember my name",
        "who am i",
        "do you know my name",
        "tell me my name",
        "how am i called",
    ),
    "es": (
        "cómo me llamo",
        "cuál es mi nombre",
        "recuerdas mi nombre",
        "quién soy yo",
        "sabes mi nombre",
        "dime mi nombre",
        "te acuerdas de cómo me llamo",
    ),
}
YOU_ARE = {"en": "Your name is {}.", "es": "Te llamas {}."}
NO_NAME = {"en": "You have not told me your name yet.", "es": "Todavía no me has dicho tu nombre."}
THINGS = {
    "en": (("my favorite color is {}", "what is my favorite color", "Your favorite color is {}."), ("i live in {}", "where do i live", "You live in {}."), ("the secret word is {}", "what is the secret word", "The secret word is {}."), ("my dog is called {}", "what is my dog called", "Your dog is called {}."), ("remember the number {}", "which number did i tell you", "The number is {}."), ("the password is {}", "what was the password", "The password is {}.")),
    "es": (("mi color favorito es {}", "cuál es mi color favorito", "Tu color favorito es {}."), ("vivo en {}", "dónde vivo", "Vives en {}."), ("la palabra secreta es {}", "cuál es la palabra secreta", "La palabra secreta es {}."), ("mi perro se llama {}", "cómo se llama mi perro", "Tu perro se llama {}."), ("recuerda el número {}", "qué número te dije", "El número es {}."), ("la contraseña es {}", "cuál era la contraseña", "La contraseña es {}.")),
}  # fmt: skip
NOTED = {"en": "All right, I will remember that.", "es": "De acuerdo, lo recordaré."}
Turns = list[Message]


def repeat(lang: str, rng: random.Random, held: bool) -> Conversation:
    if rng.random() < 0.2:
        word = rng.choice((rng.choice(half(WORDS, held)), made_up(rng)))
        asked, answer = rng.choice(SPELL[lang]).format(word), "-".join(word.upper())
    else:
        kind = rng.choice(("phrase", "phrase", "code", "number", "thing", "person", "path", "email"))
        answer = str(MAKERS[kind](rng, held))
        if rng.random() < 0.4:
            answer += " " + " ".join(rng.choice(half(WORDS, held)) for _ in range(rng.randint(1, 4)))
        shown = rng.choice((answer, answer, f'"{answer}"'))
        asked = rng.choice(REPEAT[lang]).format(shown)
    if rng.random() < 0.5:
        asked = asked[0].upper() + asked[1:]
    thought = "I repeat what was said." if lang == "en" else "Repito lo dicho."
    return Conversation("copy", [Message("user", asked), Message("assistant", answer, thought=thought)])


def introduction(lang: str, rng: random.Random, held: bool) -> tuple[Turns, Turns]:
    """The turns that tell a thing and the turns that ask for it later."""
    if rng.random() < 0.5:
        name = rng.choice(half(NAMES, held)) if rng.random() < 0.7 else made_up(rng).capitalize()
        told = rng.choice(INTRODUCE[lang]).format(name)
        first = [
            Message("user", _typed(told, name, rng)),
            Message("assistant", WELCOME[lang].format(name), thought=_keep(lang)),
        ]
        asked, answer = rng.choice(WHO_AM_I[lang]), YOU_ARE[lang].format(name)
    else:
        told, asked, answer = rng.choice(THINGS[lang])
        value = str(
            rng.choice(
                (rng.choice(half(WORDS, held)), rng.choice(half(CITIES, held)), rng.randint(0, 999), made_up(rng))
            )
        )
        first = [
            Message("user", _typed(told.format(value), value, rng)),
            Message("assistant", NOTED[lang], thought=_keep(lang)),
        ]
        answer = answer.format(value)
    thought = "I was told this before." if lang == "en" else "Me lo dijeron antes."
    return first, [Message("user", question(asked, lang, rng)), Message("assistant", answer, thought=thought)]


def nameless(lang: str, rng: random.Random) -> Conversation:
    thought = "No name was told." if lang == "en" else "No me dijo su nombre."
    asked = question(rng.choice(WHO_AM_I[lang]), lang, rng)
    return Conversation("memory", [Message("user", asked), Message("assistant", NO_NAME[lang], thought=thought)])


def _typed(text: str, value: str, rng: random.Random) -> str:
    return (text[0].upper() + text[1:] if rng.random() < 0.5 else text) + rng.choice(("", ".", "!"))


def _keep(lang: str) -> str:
    return "I am told something. I keep it." if lang == "en" else "Me dicen algo. Lo recuerdo."
