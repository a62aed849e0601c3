# ruff: noqa: E501 - tables of sentences
"""The tools of the corpus: a table of likely ones, and a maker of tools nobody has seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guide.words import CITIES, NAMES, WORDS, code, half, made_up

Maker = Callable[[random.Random, bool], Any]


def _email(rng: random.Random, held: bool) -> str:
    return f"{rng.choice(half(NAMES, held)).lower()}@{rng.choice(('example.com', 'mail.org', 'test.net', made_up(rng) + '.com'))}"


def _path(rng: random.Random, held: bool) -> str:
    ending = rng.choice((".txt", ".md", ".py", ".json", ".csv", "/"))
    return (
        rng.choice(("/", "", "/home/", "docs/", "/tmp/", "src/"))
        + rng.choice((made_up(rng), rng.choice(half(WORDS, held))))
        + ending
    )


def _number(rng: random.Random, held: bool) -> int:
    return rng.choice((rng.randint(0, 20), rng.randint(0, 100), rng.randint(0, 1000), rng.randint(0, 99999)))


def _thing(rng: random.Random, held: bool) -> str:
    return rng.choice((rng.choice(half(WORDS, held)), made_up(rng), code(rng)))


def _phrase(rng: random.Random, held: bool) -> str:
    return " ".join(
        _thing(rng, held) if rng.random() < 0.3 else rng.choice(half(WORDS, held)) for _ in range(rng.randint(1, 3))
    )


def _place(rng: random.Random, held: bool) -> str:
    return rng.choice(half(CITIES, held)) if rng.random() < 0.75 else made_up(rng).capitalize()


def _person(rng: random.Random, held: bool) -> str:
    return rng.choice(half(NAMES, held)) if rng.random() < 0.75 else made_up(rng).capitalize()


MAKERS: Mapping[str, Maker] = {
    "city": _place,
    "person": _person,
    "number": _number,
    "float": lambda rng, held: round(rng.uniform(0, 200), rng.choice((1, 2))),
    "email": _email,
    "path": _path,
    "thing": _thing,
    "phrase": _phrase,
    "code": lambda rng, held: code(rng),
    "time": lambda rng, held: f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}",
    "date": lambda rng, held: f"20{rng.randint(20, 39)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
    "lang": lambda rng, held: rng.choice(
        ("English", "Spanish", "French", "German", "Italian", "inglés", "francés", "alemán")
    ),
    "money": lambda rng, held: rng.choice(("USD", "EUR", "GBP", "JPY", "MXN", "CHF", "ARS", "CLP", "COP", "PEN")),
    "unit": lambda rng, held: rng.choice(("celsius", "fahrenheit")),
    "stock": lambda rng, held: "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 4))),
    "sum": lambda rng, held: f"{rng.randint(0, 999)} {rng.choice('+-*/')} {rng.randint(1, 999)}",
}


@dataclass(frozen=True, slots=True)
class Slot:
    name: str
    kind: str
    description: str
    optional: bool = False

    @property
    def type(self) -> str:
        return {"number": "integer", "float": "number"}.get(self.kind, "string")

    @property
    def choices(self) -> tuple[str, ...]:
        return ("celsius", "fahrenheit") if self.kind == "unit" else ()

    def value(self, rng: random.Random, held: bool) -> Any:
        return MAKERS[self.kind](rng, held)


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    description: str
    slots: tuple[Slot, ...]
    asks: Mapping[str, Sequence[str]]
    command: bool = False
    twice: bool = True


def _family(name: str, description: str, slots: str, en: str, es: str) -> Family:
    made = []
    for slot in slots.split(","):
        if not slot.strip():
            continue
        label, kind = slot.strip().split(":")
        optional = kind.endswith("?")
        made.append(Slot(label, kind.rstrip("?"), "The " + label.replace("_", " "), optional))
    return Family(name, description, tuple(made), {"en": en.split(" | "), "es": es.split(" | ")}, twice=bool(made))


FAMILIES = [
    _family("get_weather", "Get the current weather for a city", "city:city", "what is the weather in {city} | how is the weather in {city} today | weather in {city} | is it raining in {city} | do I need an umbrella in {city} | what's the weather like in {city}", "qué tiempo hace en {city} | cómo está el tiempo en {city} | el clima en {city} | llueve en {city} | qué tal el tiempo hoy en {city}"),
    _family("get_current_weather", "Get the current weather for a location", "location:city, format:unit?", "what is the weather in {location} in {format} | weather today in {location} | how hot is it in {location} | temperature in {location} in {format} | what is the weather today in {location}", "qué tiempo hace hoy en {location} | temperatura en {location} en {format} | hace calor en {location} | qué clima hay en {location}"),
    _family("get_current_time", "Get the current time in a city", "city:city", "what time is it in {city} | tell me the time in {city} | current time in {city} | what's the time in {city} now", "qué hora es en {city} | dime la hora en {city} | hora actual en {city} | qué hora tienen en {city}"),
    _family("add_two_numbers", "Add two numbers", "a:number, b:number", "what is {a} + {b} | add {a} and {b} | what is {a} plus {b} | sum {a} and {b} | how much is {a} + {b} | please add {a} and {b}", "cuánto es {a} + {b} | suma {a} y {b} | cuánto es {a} más {b} | cuántos son {a} y {b}"),
    _family("subtract_two_numbers", "Subtract two numbers", "a:number, b:number", "what is {a} - {b} | what is {a} minus {b} | {a} take away {b} | how much is {a} minus {b}", "cuánto es {a} - {b} | cuánto es {a} menos {b} | resta {a} menos {b}"),
    _family("multiply", "Multiply two numbers", "a:number, b:number", "what is {a} * {b} | multiply {a} by {b} | {a} times {b} | what is {a} x {b}", "cuánto es {a} por {b} | multiplica {a} por {b} | {a} * {b}"),
    _family("calculate", "Evaluate an arithmetic expression", "expression:sum", "calculate {expression} | compute {expression} | evaluate {expression} | what is {expression}", "calcula {expression} | cuánto es {expression} | evalúa {expression}"),
    _family("search_web", "Search the web", "query:phrase", "search the web for {query} | google {query} | look up {query} on the internet | find pages about {query}", "busca en la web {query} | busca {query} en internet | busca información sobre {query}"),
    _family("send_email", "Send an e-mail to someone", "to:email, subject:phrase", "send an email to {to} about {subject} | email {to} with subject {subject} | write a mail to {to} about {subject}", "envía un correo a {to} sobre {subject} | manda un email a {to} con asunto {subject} | escribe a {to} sobre {subject}"),
    _family("set_timer", "Start a timer", "minutes:number", "set a timer for {minutes} minutes | start a timer of {minutes} minutes | wake me in {minutes} minutes | timer {minutes} min", "pon un temporizador de {minutes} minutos | avísame en {minutes} minutos | temporizador de {minutes} min"),
    _family("translate_text", "Translate a text into another language", "text:phrase, language:lang", "translate {text} to {language} | how do you say {text} in {language} | put {text} into {language}", "traduce {text} al {language} | cómo se dice {text} en {language}"),
    _family("convert_currency", "Convert an amount of money", "amount:number, source:money, target:money", "convert {amount} {source} to {target} | how much is {amount} {source} in {target} | change {amount} {source} into {target}", "convierte {amount} {source} a {target} | cuánto son {amount} {source} en {target} | cambia {amount} {source} a {target}"),
    _family("play_music", "Play a song", "song:phrase", "play {song} | play the song {song} | I want to hear {song} | put on {song}", "pon {song} | reproduce la canción {song} | quiero escuchar {song} | ponme {song}"),
    _family("read_file", "Read a file from disk", "path:path", "read the file {path} | show me {path} | what is in {path} | open {path}", "lee el archivo {path} | muéstrame {path} | qué hay en {path} | abre {path}"),
    _family("list_directory", "List the files in a folder", "path:path", "list the files in {path} | which files are in {path} | show the folder {path}", "lista los archivos de {path} | qué archivos hay en {path} | muestra la carpeta {path}"),
    _family("get_stock_price", "Get the price of a stock", "symbol:stock", "what is the price of {symbol} | how much is {symbol} stock | stock price of {symbol} | quote for {symbol}", "cuál es el precio de {symbol} | a cuánto está {symbol} | cotización de {symbol}"),
    _family("get_flight_times", "Get the flight times between two cities", "departure:city, arrival:city", "flights from {departure} to {arrival} | when does the plane from {departure} to {arrival} leave | how long is the flight from {departure} to {arrival}", "vuelos de {departure} a {arrival} | cuándo sale el avión de {departure} a {arrival} | cuánto dura el vuelo de {departure} a {arrival}"),
    _family("create_event", "Add an event to the calendar", "title:phrase, date:date, time:time", "add {title} to my calendar on {date} at {time} | create an event {title} on {date} at {time} | schedule {title} for {date} at {time}", "añade {title} a mi calendario el {date} a las {time} | crea un evento {title} el {date} a las {time} | agenda {title} para el {date} a las {time}"),
    _family("turn_on_light", "Turn on the light in a room", "room:thing", "turn on the light in the {room} | light on in {room} | switch on the {room} light", "enciende la luz de {room} | luz en {room} | prende la luz de {room}"),
    _family("book_table", "Book a table in a restaurant", "restaurant:thing, people:number, time:time", "book a table at {restaurant} for {people} people at {time} | reserve {restaurant} for {people} at {time}", "reserva una mesa en {restaurant} para {people} personas a las {time} | reserva {restaurant} para {people} a las {time}"),
    _family("find_user", "Find a user by name", "name:person", "find the user {name} | who is {name} | look up {name} in the directory | search for user {name}", "busca al usuario {name} | quién es {name} | busca a {name} en el directorio"),
    _family("get_order_status", "Get the status of an order", "order_id:code", "where is my order {order_id} | status of order {order_id} | has order {order_id} been shipped", "dónde está mi pedido {order_id} | estado del pedido {order_id} | se ha enviado el pedido {order_id}"),
    _family("roll_dice", "Roll dice", "sides:number", "roll a die with {sides} sides | roll a d{sides} | throw a {sides}-sided die", "tira un dado de {sides} caras | lanza un dado de {sides} caras"),
    _family("get_capital", "Get the capital of a country", "country:city", "what is the capital of {country} | capital of {country} | name the capital of {country}", "cuál es la capital de {country} | capital de {country} | dime la capital de {country}"),
    _family("remember", "Store a note for later", "note:phrase", "remember {note} | take a note: {note} | note down {note}", "recuerda {note} | apunta {note} | toma nota: {note}"),
    _family("run_command", "Run a shell command", "command:path", "run {command} | execute the command {command} | run the command {command} in the shell", "ejecuta {command} | corre el comando {command} | ejecuta el comando {command}"),
    _family("get_distance", "Get the distance between two places", "origin:city, destination:city", "how far is {origin} from {destination} | distance from {origin} to {destination}", "qué distancia hay de {origin} a {destination} | distancia entre {origin} y {destination}"),
    _family("pay_invoice", "Pay an invoice", "invoice:code, amount:float", "pay {amount} for invoice {invoice} | pay invoice {invoice}, {amount} euros", "paga {amount} por la factura {invoice} | paga la factura {invoice}, {amount} euros"),
    _family("get_news", "Get the latest news about a topic", "topic:phrase", "what is the news about {topic} | latest news on {topic} | news about {topic}", "qué noticias hay sobre {topic} | últimas noticias de {topic} | noticias sobre {topic}"),
    _family("get_date", "Get the date of today", "", "what day is it | what is the date today | which date is it today", "qué día es hoy | a qué fecha estamos | qué fecha es hoy"),
]  # fmt: skip

NOUNS = """price:precio size:tamaño color:color weight:peso owner:dueño status:estado address:dirección phone:teléfono age:edad
score:puntuación balance:saldo schedule:horario route:ruta map:mapa photo:foto review:reseña recipe:receta menu:menú
ticket:entrada battery:batería speed:velocidad height:altura password:contraseña profile:perfil invoice:factura report:informe
summary:resumen history:historial location:ubicación version:versión license:licencia backup:copia message:mensaje
contact:contacto salary:sueldo budget:presupuesto rating:valoración stock:existencias discount:descuento temperature:temperatura
humidity:humedad sensor:sensor camera:cámara door:puerta lamp:lámpara alarm:alarma account:cuenta order:pedido room:habitación
book:libro movie:película song:canción team:equipo player:jugador game:juego match:partido product:producto customer:cliente
student:alumno course:curso exam:examen grade:nota lesson:lección task:tarea project:proyecto bug:fallo branch:rama
commit:cambio server:servidor database:base table:tabla key:clave label:etiqueta""".split()
VERBS = """get:dame show:muestra find:busca delete:borra open:abre check:comprueba update:actualiza fetch:trae list:lista
read:lee create:crea print:imprime count:cuenta remove:quita lock:bloquea start:inicia stop:para export:exporta share:comparte
archive:archiva""".split()
PARAMETERS = """name:thing id:code code:code item:thing title:phrase user:person person:person city:city place:city key:thing
value:number number:number date:date email:email file:path query:phrase target:thing""".split()
FRAMES = {
    "en": ("{verb} the {noun} of {value}", "{verb} the {noun} for {value}", "please {verb} the {noun} of {value}", "can you {verb} the {noun} of {value}", "I want to {verb} the {noun} of {value}"),
    "es": ("{verb} {noun} de {value}", "por favor, {verb} {noun} de {value}", "{verb} {noun} para {value}", "necesito esto: {verb} {noun} de {value}"),
}  # fmt: skip


def made_family(held: bool, rng: random.Random) -> Family:
    """A tool of a random verb, noun and parameter; held-out ones are combinations (partly nouns) never trained on."""
    while True:
        noun, noun_es = rng.choice(NOUNS if held else half(NOUNS, held=False)).split(":")
        verb, verb_es = rng.choice(VERBS).split(":")
        parameter, kind = rng.choice(PARAMETERS).split(":")
        if (sum(map(ord, verb + noun + parameter)) % 7 == 0) == held:
            break
    style = rng.randrange(4)
    name = (f"{verb}_{noun}", f"{verb}{noun.capitalize()}", f"{verb}_{noun}_by_{parameter}", f"{noun}_{verb}")[style]
    slots = [Slot(parameter, kind, f"The {parameter} of the {noun}")]
    ending = {"en": "", "es": ""}
    if rng.random() < 0.3:
        extra, extra_kind = rng.choice([pair for pair in PARAMETERS if not pair.startswith(parameter)]).split(":")
        slots.append(Slot(extra, extra_kind, f"The {extra}"))
        ending = {"en": f" with {extra} {{{extra}}}", "es": f" con {extra} {{{extra}}}"}
    asks = {}
    for lang, (v, n) in {"en": (verb, noun), "es": (verb_es, noun_es)}.items():
        asks[lang] = [
            frame.replace("{verb}", v).replace("{noun}", n).replace("{value}", "{" + parameter + "}") + ending[lang]
            for frame in FRAMES[lang]
        ]
    return Family(name, f"{verb.capitalize()} the {noun} of a {parameter}", tuple(slots), asks, command=True)


OTHERS: Mapping[str, Sequence[tuple[str, Callable[[random.Random], Any]]]] = {
    "en": (
        ("temperature", lambda rng: f"{rng.randint(-10, 40)} °C"), ("condition", lambda rng: rng.choice(("sunny", "cloudy", "rain", "snow", "clear sky"))),
        ("result", lambda rng: rng.randint(0, 99999)), ("status", lambda rng: rng.choice(("ok", "done", "shipped", "open", "closed", "pending"))),
        ("price", lambda rng: round(rng.uniform(1, 500), 2)), ("time", lambda rng: f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}"),
        ("name", lambda rng: made_up(rng).capitalize()), ("id", lambda rng: code(rng)), ("count", lambda rng: rng.randint(0, 500)),
    ),
    "es": (
        ("temperatura", lambda rng: f"{rng.randint(-10, 40)} °C"), ("cielo", lambda rng: rng.choice(("soleado", "nublado", "lluvia", "nieve", "despejado"))),
        ("resultado", lambda rng: rng.randint(0, 99999)), ("estado", lambda rng: rng.choice(("ok", "hecho", "enviado", "abierto", "cerrado"))),
        ("precio", lambda rng: round(rng.uniform(1, 500), 2)), ("hora", lambda rng: f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}"),
        ("nombre", lambda rng: made_up(rng).capitalize()), ("id", lambda rng: code(rng)), ("total", lambda rng: rng.randint(0, 500)),
        ("temperature", lambda rng: rng.randint(-10, 40)), ("status", lambda rng: rng.choice(("ok", "done", "sunny"))),
    ),
}  # fmt: skip
