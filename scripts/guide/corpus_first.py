# ruff: noqa: E501 - tables of sentences
"""What people type first into a new server and that can be made by rule: sums, capitals, words, verses, counting."""

from __future__ import annotations

import random
from collections.abc import Callable

from guide.noise import question
from guide.prompt import Conversation, Message
from guide.words import WORDS, half

COUNTRIES = """France:Paris:Francia:París|Spain:Madrid:España:Madrid|Germany:Berlin:Alemania:Berlín|Italy:Rome:Italia:Roma
|Portugal:Lisbon:Portugal:Lisboa|England:London:Inglaterra:Londres|the United Kingdom:London:el Reino Unido:Londres
|Ireland:Dublin:Irlanda:Dublín|the United States:Washington, D.C.:Estados Unidos:Washington D. C.|the USA:Washington, D.C.:EE. UU.:Washington D. C.
|Canada:Ottawa:Canadá:Ottawa|Mexico:Mexico City:México:Ciudad de México|Brazil:Brasília:Brasil:Brasilia|Argentina:Buenos Aires:Argentina:Buenos Aires
|Chile:Santiago:Chile:Santiago|Peru:Lima:Perú:Lima|Colombia:Bogotá:Colombia:Bogotá|Venezuela:Caracas:Venezuela:Caracas|Cuba:Havana:Cuba:La Habana
|Ecuador:Quito:Ecuador:Quito|Bolivia:Sucre:Bolivia:Sucre|Uruguay:Montevideo:Uruguay:Montevideo|Japan:Tokyo:Japón:Tokio|China:Beijing:China:Pekín
|India:New Delhi:India:Nueva Delhi|South Korea:Seoul:Corea del Sur:Seúl|Russia:Moscow:Rusia:Moscú|Poland:Warsaw:Polonia:Varsovia
|Austria:Vienna:Austria:Viena|Switzerland:Bern:Suiza:Berna|Sweden:Stockholm:Suecia:Estocolmo|Norway:Oslo:Noruega:Oslo|Denmark:Copenhagen:Dinamarca:Copenhague
|Finland:Helsinki:Finlandia:Helsinki|Greece:Athens:Grecia:Atenas|Turkey:Ankara:Turquía:Ankara|Egypt:Cairo:Egipto:El Cairo|Australia:Canberra:Australia:Canberra
|the Netherlands:Amsterdam:los Países Bajos:Ámsterdam|Belgium:Brussels:Bélgica:Bruselas|Hungary:Budapest:Hungría:Budapest|Morocco:Rabat:Marruecos:Rabat
|South Africa:Pretoria:Sudáfrica:Pretoria|Kenya:Nairobi:Kenia:Nairobi|New Zealand:Wellington:Nueva Zelanda:Wellington|Ukraine:Kyiv:Ucrania:Kiev""".replace(
    "\n", ""
)
PAIRS = """dog:perro cat:gato house:casa water:agua bread:pan milk:leche sun:sol moon:luna star:estrella sea:mar fire:fuego
tree:árbol flower:flor book:libro table:mesa chair:silla door:puerta window:ventana street:calle city:ciudad friend:amigo
mother:madre father:padre brother:hermano sister:hermana man:hombre woman:mujer child:niño hand:mano head:cabeza eye:ojo
heart:corazón day:día night:noche year:año time:tiempo hello:hola thanks:gracias goodbye:adiós yes:sí please:por_favor red:rojo blue:azul
green:verde white:blanco black:negro big:grande small:pequeño good:bueno bad:malo new:nuevo old:viejo happy:feliz love:amor
world:mundo computer:ordenador car:coche train:tren cheese:queso wine:vino apple:manzana fish:pescado bird:pájaro horse:caballo
language:idioma word:palabra call:llamada model:modelo server:servidor question:pregunta answer:respuesta one:uno two:dos three:tres""".split()
NUMBERS = {
    "en": "one two three four five six seven eight nine ten eleven twelve".split(),
    "es": "uno dos tres cuatro cinco seis siete ocho nueve diez once doce".split(),
}
VERSES = {
    "en": (
        (["write a haiku about {}", "haiku about {}", "can you write a haiku about {}", "a haiku on {} please"], "Quiet {} at dawn,\na small model hears your call\nand answers in light.", "a haiku"),
        (["write a poem about {}", "poem about {}", "write me a short poem about {}", "can you write a poem about {}", "compose a poem about {}"], "I thought of {} late at night,\na little word, a little light;\nI called it once, it called me too,\nand now I tell it all to you.", "a poem"),
        (["tell me a story about {}", "write a story about {}", "story about {}", "tell me a short story about {}", "write a short story about {}"], "Once there was {} that nobody called. One day a small llama picked up the phone and said: hello. From then on {} was never alone.", "a story"),
    ),
    "es": (
        (["escribe un haiku sobre {}", "haiku sobre {}", "un haiku de {} por favor"], "Calla {} al alba,\nun modelo oye la voz\ny responde en luz.", "un haiku"),
        (["escribe un poema sobre {}", "poema sobre {}", "escríbeme un poema corto sobre {}", "haz un poema sobre {}"], "Pensé en {} al anochecer,\npalabra pequeña, luz por nacer;\nhice una llamada, me respondió,\ny ahora te cuento lo que contó.", "un poema"),
        (["cuéntame una historia sobre {}", "escribe una historia sobre {}", "historia sobre {}", "cuéntame un cuento sobre {}", "escribe un cuento sobre {}"], "Había una vez {} a quien nadie llamaba. Un día una pequeña llama tomó el teléfono y dijo: hola. Desde entonces {} nunca estuvo solo.", "una historia"),
    ),
}  # fmt: skip
Made = tuple[str, str, str]


def conversation(lang: str, rng: random.Random, held: bool = False) -> Conversation:
    maker = rng.choice(MAKERS)
    asked, answer, topic = maker(lang, rng, held)
    thought = f"A common question: {topic}." if lang == "en" else f"Una pregunta común: {topic}."
    return Conversation(
        "first", [Message("user", question(asked, lang, rng)), Message("assistant", answer, thought=thought)]
    )


def arithmetic(lang: str, rng: random.Random, held: bool) -> Made:
    """One- and two-digit sums and differences, small products; a tenth of the pairs is kept back."""
    while True:
        sign = rng.choice("+++--*")
        a, b = (rng.randint(0, 10), rng.randint(0, 10)) if sign == "*" else (rng.randint(0, 99), rng.randint(0, 99))
        if rng.random() < 0.4:
            a, b = a % 11, b % 11
        if ((a * 31 + b * 17 + ord(sign)) % 10 == 0) == held:
            break
    if sign == "-" and b > a:
        a, b = b, a
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    words = {"en": {"+": "plus", "-": "minus", "*": "times"}, "es": {"+": "más", "-": "menos", "*": "por"}}[lang]
    term = rng.choice((f"{a} {sign} {b}", f"{a}{sign}{b}", f"{a} {words[sign]} {b}"))
    frames = {
        "en": ("what is {}", "how much is {}", "{}", "{} =", "calculate {}", "what's {}", "{} is"),
        "es": ("cuánto es {}", "cuánto son {}", "{}", "{} =", "calcula {}", "qué da {}"),
    }
    return (
        rng.choice(frames[lang]).format(term),
        f"{a} {sign} {b} = {result}",
        "a sum" if lang == "en" else "una cuenta",
    )


def capital(lang: str, rng: random.Random, held: bool) -> Made:
    en, city, es, ciudad = rng.choice(COUNTRIES.split("|")).split(":")
    frames: tuple[str, ...]
    if lang == "en":
        frames = (
            "what is the capital of {}",
            "capital of {}",
            "what's the capital of {}",
            "the capital of {}",
            "tell me the capital of {}",
            "which city is the capital of {}",
            "what is the capital city of {}",
        )
        return rng.choice(frames).format(en), f"The capital of {en} is {city.rstrip('.')}.", f"the capital of {en}"
    frames = (
        "cuál es la capital de {}",
        "capital de {}",
        "la capital de {}",
        "dime la capital de {}",
        "qué ciudad es la capital de {}",
        "cómo se llama la capital de {}",
    )
    text = rng.choice(frames).format(es).replace("de el ", "del ")
    return text, f"La capital de {es} es {ciudad.rstrip('.')}.".replace("de el ", "del "), f"la capital de {es}"


def translation(lang: str, rng: random.Random, held: bool) -> Made:
    en, es = (word.replace("_", " ") for word in rng.choice(PAIRS).split(":"))
    into = rng.choice(("en", "es"))
    source, target = (en, es) if into == "es" else (es, en)
    name = {"en": {"en": "English", "es": "Spanish"}, "es": {"en": "inglés", "es": "español"}}[lang][into]
    frames = {
        "en": (
            "translate {} to {}",
            "how do you say {} in {}",
            "what is {} in {}",
            "{} in {}",
            "translate the word {} into {}",
        ),
        "es": (
            "traduce {} al {}",
            "cómo se dice {} en {}",
            "qué es {} en {}",
            "{} en {}",
            "traduce la palabra {} al {}",
        ),
    }
    shown = rng.choice((source, source, f'"{source}"', f"'{source}'"))
    asked = rng.choice(frames[lang]).format(shown, name)
    said = f'"{source}" in {name} is "{target}".' if lang == "en" else f'"{source}" en {name} es "{target}".'
    return asked, said, f"a word in {name}" if lang == "en" else f"una palabra en {name}"


def counting(lang: str, rng: random.Random, held: bool) -> Made:
    end = rng.choice((3, 5, 7, 10, 12, 15, 20))
    shown = str(end) if end > 12 or rng.random() < 0.6 else NUMBERS[lang][end - 1]
    frames = {
        "en": (
            "count to {}",
            "count from 1 to {}",
            "can you count to {}",
            "list the numbers from 1 to {}",
            "count from one to {}",
        ),
        "es": (
            "cuenta hasta {}",
            "cuenta de 1 a {}",
            "puedes contar hasta {}",
            "lista los números del 1 al {}",
            "cuenta del uno al {}",
        ),
    }
    return (
        rng.choice(frames[lang]).format(shown),
        ", ".join(map(str, range(1, end + 1))),
        "counting" if lang == "en" else "contar",
    )


def verse(lang: str, rng: random.Random, held: bool) -> Made:
    asked, text, topic = rng.choice(VERSES[lang])
    about = rng.choice(half(WORDS, held))
    if lang == "en":
        about = rng.choice((about, f"a {about}", f"the {about}", "llamas", "the sea", "a llama", "spring", "a cat"))
    else:
        about = rng.choice(
            (about, f"el {about}", f"un {about}", "las llamas", "el mar", "una llama", "la primavera", "un gato")
        )
    return rng.choice(asked).format(about), text.format(about, about), topic


MAKERS: tuple[Callable[[str, random.Random, bool], Made], ...] = (
    arithmetic, arithmetic, arithmetic, capital, capital, translation, counting, verse,
)  # fmt: skip
