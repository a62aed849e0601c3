"""Tool calls: random tools and schemas, arguments copied from the question, distractors, results, no fitting tool."""

from __future__ import annotations

import json
import random
from typing import Any

from guide.corpus_first import NUMBERS
from guide.noise import question
from guide.prompt import Conversation, Message
from guide.toolbox import FAMILIES, OTHERS, Family, made_family

MISSING = {
    "en": "None of the tools I was given can do that, and I cannot do it by myself.",
    "es": "Ninguna de las herramientas que tengo sirve para eso, y por mí mismo no puedo hacerlo.",
}


def schema(family: Family, rng: random.Random) -> dict[str, Any]:
    """A tool definition as clients send them: key order, descriptions and `required` vary."""
    described = rng.random() < 0.7
    properties = {}
    for slot in family.slots:
        entry: dict[str, Any] = {"type": slot.type}
        if described:
            entry["description"] = slot.description
        if slot.choices:
            entry["enum"] = list(slot.choices)
        properties[slot.name] = entry
    required = [slot.name for slot in family.slots if not slot.optional]
    parameters: dict[str, Any] = {"type": "object"}
    if rng.random() < 0.5:
        parameters |= {"required": required, "properties": properties}
    else:
        parameters |= {"properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": family.name, "description": family.description, "parameters": parameters},
    }


def pick(held: bool, rng: random.Random) -> Family:
    if rng.random() < 0.6:
        return made_family(held, rng)
    return rng.choice([family for i, family in enumerate(FAMILIES) if (i % 5 == 2) == held])


def ask(family: Family, lang: str, rng: random.Random, held: bool) -> tuple[str, dict[str, Any]]:
    """A question for the tool and the arguments it should be called with."""
    pattern = rng.choice(family.asks[lang])
    arguments: dict[str, Any] = {}
    for slot in family.slots:
        mark = "{" + slot.name + "}"
        if mark in pattern:
            value = slot.value(rng, held)
            arguments[slot.name] = value
            small = slot.kind == "number" and 1 <= value <= 12 and rng.random() < 0.3
            pattern = pattern.replace(mark, NUMBERS[lang][value - 1] if small else str(value))
    return question(pattern, lang, rng, asks=not family.command), arguments


def conversation(rng: random.Random, held: bool = False, plain: Conversation | None = None) -> Conversation:
    """`plain` is a talk that needs no tool: the tools are offered in vain."""
    lang = rng.choice(("en", "es"))
    family = pick(held, rng)
    others = {family.name: family}
    count = rng.choice((0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 6, 8))
    while len(others) <= count:
        other = pick(held, rng)
        others.setdefault(other.name, other)
    offered = list(others.values())
    rng.shuffle(offered)
    if plain:
        return _with_tools("tools/plain", plain.messages, offered, rng)
    text, arguments = ask(family, lang, rng, held)
    messages = [Message("user", text)]
    kind = rng.random()
    if kind < 0.08 and len(offered) > 1:
        offered.remove(family)
        reply = Message("assistant", MISSING[lang], thought=_thought(lang, None))
        return _with_tools("tools/none", [*messages, reply], offered, rng)
    calls = [(family.name, arguments)]
    if kind < 0.16 and family.twice:
        text, arguments = ask(family, lang, rng, held)
        messages[0].content = f"{messages[0].content.rstrip('?.¿')} {'y' if lang == 'es' else 'and'} {text}"
        calls.append((family.name, arguments))
    messages.append(Message("assistant", calls=tuple(calls), thought=_thought(lang, family.name)))
    if kind > 0.6 and len(calls) == 1:
        messages += _result(family, arguments, lang, rng, held)
    return _with_tools("tools/call", messages, offered, rng)


def _result(family: Family, arguments: dict[str, Any], lang: str, rng: random.Random, held: bool) -> list[Message]:
    keys = rng.sample(OTHERS[lang], rng.choice((1, 1, 2)))
    values = {key: maker(rng) for key, maker in keys}
    subject = next((str(value) for value in arguments.values()), family.name)
    if rng.random() < 0.35:
        value = next(iter(values.values()))
        told, content = str(value), str(value)
    else:
        content = json.dumps(values, ensure_ascii=False)
        told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())
    say = f"The answer for {subject}: {told}." if lang == "en" else f"La respuesta para {subject}: {told}."
    thought = (
        "The tool has answered. I tell the result." if lang == "en" else "La herramienta respondió. Digo el resultado."
    )
    return [Message("tool", content), Message("assistant", say, thought=thought)]


def _thought(lang: str, name: str | None) -> str:
    if name is None:
        return "No tool fits. I say so." if lang == "en" else "Ninguna herramienta sirve. Lo digo."
    return f"A tool fits: {name}." if lang == "en" else f"Sirve una herramienta: {name}."


def _with_tools(kind: str, messages: list[Message], offered: list[Family], rng: random.Random) -> Conversation:
    tools = [schema(family, rng) for family in offered]
    return Conversation(kind, messages, tools, compact=rng.random() < 0.5)
