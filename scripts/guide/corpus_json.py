# ruff: noqa: E501 - tables of sentences
"""JSON answers: to a schema or a list of keys in the prompt or the system message, values taken from the text."""

from __future__ import annotations

import json
import random
from typing import Any

from guide.noise import question
from guide.prompt import Conversation, Message
from guide.toolbox import MAKERS
from guide.words import half

FIELDS = """name:nombre:person user:usuario:person author:autor:person city:ciudad:city country:país:city age:edad:number
price:precio:float amount:importe:number count:cuenta:number date:fecha:date email:correo:email color:color:thing
title:título:phrase product:producto:thing code:código:code id:id:code status:estado:thing score:puntos:number
language:idioma:lang company:empresa:thing team:equipo:thing animal:animal:thing job:trabajo:thing hour:hora:time
file:archivo:path currency:moneda:money size:tamaño:number owner:dueño:person topic:tema:phrase room:sala:thing
friend:amigo:person year:año:number weight:peso:float origin:origen:city target:destino:city""".split()
TRAINED, HELD = half(FIELDS, held=False), half(FIELDS, held=True)
WISHES = {
    "en": (
        "Answer in JSON: ", "Reply as JSON with ", "Return JSON: ", "Extract this as JSON: ", "Respond using JSON with the keys ",
    ),
    "es": ("Responde en JSON: ", "Devuelve JSON: ", "Extrae esto como JSON: ", "Responde en JSON con las claves "),
}  # fmt: skip
TYPES = {"number": "integer", "float": "number"}


def conversation(rng: random.Random, held: bool = False) -> Conversation:
    lang = rng.choice(("en", "es"))
    chosen = rng.sample(HELD if held else TRAINED, rng.choice((1, 2, 3) if held else (1, 2, 2, 3, 3, 4)))
    values: dict[str, Any] = {}
    told = []
    for field in chosen:
        en, es, kind = field.split(":")
        label = en if lang == "en" else es
        value = MAKERS[kind](rng, held)
        values[label] = value
        told.append(_statement(label, value, lang, rng))
    rng.shuffle(told)
    text = (", ".join(told) if rng.random() < 0.6 else ". ".join(told)) + rng.choice(("", "."))
    keys = _keys(values, chosen, rng)
    wish = rng.choice(WISHES[lang]) + keys
    answer = json.dumps(values, ensure_ascii=False)
    thought = "JSON is wanted. I copy the values." if lang == "en" else "Se pide JSON. Copio los valores."
    reply = Message("assistant", answer, thought=thought)
    if rng.random() < 0.35:
        return Conversation(
            "json", [Message("system", wish), Message("user", question(text, lang, rng, asks=False)), reply]
        )
    asked = rng.choice((f"{text}\n{wish}", f"{wish}\n{text}", f"{text}. {wish}"))
    return Conversation("json", [Message("user", asked), reply])


def _statement(label: str, value: Any, lang: str, rng: random.Random) -> str:
    if lang == "en":
        return rng.choice(
            (f"the {label} is {value}", f"{label}: {value}", f"{label} {value}", f"its {label} is {value}")
        )
    return rng.choice((f"{label}: {value}", f"{label} {value}", f"su {label} es {value}", f"{label} es {value}"))


def _keys(values: dict[str, Any], chosen: list[str], rng: random.Random) -> str:
    if rng.random() < 0.4:
        return ", ".join(values)
    kinds = [field.split(":")[2] for field in chosen]
    properties = {label: {"type": TYPES.get(kind, "string")} for label, kind in zip(values, kinds, strict=True)}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.6:
        schema["required"] = list(values)
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":") if rng.random() < 0.4 else None)
