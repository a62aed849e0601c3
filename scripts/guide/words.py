# ruff: noqa: E501 - tables of sentences
"""Word lists the corpus draws from: people, places, things in both languages, random strings.

Every list is cut in two: `TRAIN` words fill training text, `HELD` words appear in tests alone.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence

NAMES = """Ana Luis María Pedro Sofía Carlos Lucía Javier Elena Miguel Laura Diego Carmen Pablo Julia Andrés Marta Tomás
Irene Hugo Alice Bob Charlie David Emma Frank Grace Henry Isabel Jack Kate Liam Mia Noah Olivia Paul Quinn Rosa Sam Tina
Uma Victor Wendy Xavier Yara Zoe Peter John Mary Anna Max Leo Nina Oscar Clara Simon Eva Daniel Lily Omar Ravi Mei Yuki Ivan
Olga Lars Ingrid Fatima Ahmed Kofi Chloe Pierre Hans Greta Marco Giulia Bruno Tiago Inés""".split()
CITIES = """Paris London Madrid Berlin Rome Lisbon Vienna Dublin Oslo Stockholm Helsinki Athens Warsaw Prague Budapest
Barcelona Valencia Sevilla Bilbao Toronto Chicago Boston Seattle Denver Miami Austin Dallas Tokyo Kyoto Osaka Seoul Beijing
Shanghai Delhi Mumbai Cairo Nairobi Lagos Lima Bogotá Quito Santiago Montevideo Caracas Havana Sydney Melbourne Auckland
Zurich Geneva Munich Hamburg Milan Naples Lyon Nice Brussels Amsterdam Rotterdam Porto Krakow Riga Tallinn Vilnius Sofia
Belgrade Zagreb Málaga Granada Zaragoza México Buenos_Aires New_York Los_Angeles San_Francisco Rio_de_Janeiro Tel_Aviv
Cape_Town Hong_Kong Kuala_Lumpur Nueva_York Londres París Roma Berlín Lisboa Viena Moscú Pekín Tokio Ginebra""".split()
WORDS = """apple river stone cloud table window garden bridge forest candle mirror pocket rocket silver orange violet
thunder lantern marble pencil hammer basket bottle button carpet cotton desert dragon engine feather finger flower guitar
helmet island jacket jungle kettle ladder magnet needle ocean paper pepper pillow planet rabbit ribbon saddle school shadow
spider spring square summer temple ticket tunnel turtle valley velvet wallet winter wizard yellow zebra amber bamboo cactus
dolphin eagle falcon ginger harbor iceberg jasmine kiwi lemon mango nectar olive panda quartz raven sapphire tiger umbrella
walnut zinc árbol barco camisa delfín estrella flor gato huevo isla jardín lámpara manzana nube ojo perro queso reloj silla
tigre uva vaca zapato agua bosque calle fuego hierba libro luna mesa nieve pan piedra playa puente ratón río sol tren viento
banana carrot castle cherry circle coffee copper corner doctor donkey family farmer father flame goose hotel kitchen letter
market monkey mother museum onion parrot piano potato prince purple queen radio salad sister snake soccer spoon station
sugar teacher tomato tower travel village violin wagon water whale yogurt""".split()
TOPICS_EN = """quantum physics|the French Revolution|black holes|photosynthesis|the stock market|how to cook paella|Shakespeare
|football results|the best phone|Bitcoin|the Roman Empire|how vaccines work|Albert Einstein|chess openings|the meaning of life
|gardening|how to lose weight|the weather on Mars|dinosaurs|the history of China|World War II|how airplanes fly|jazz
|climate change|how to fix a car|the president of Brazil|the Eiffel Tower|recipes with chicken|how to knit|taxes|neural networks
|the human heart|ancient Egypt|Mozart|the Beatles|philosophy|Kant|Plato|evolution|volcanoes|earthquakes|how to play guitar
|the Olympic Games|tennis|basketball|movies|Star Wars|Harry Potter|anime|video games|Minecraft|JavaScript closures|Rust lifetimes
|how to write a compiler|Kubernetes|SQL joins|my girlfriend|my exam tomorrow|the lottery numbers|the news of today|inflation
|mortgages|law school|the population of India|the tallest mountain|the deepest ocean|penguins|cats|dogs|how to train a puppy
|yoga|meditation|back pain|headaches|vitamin C|coffee|tea|wine|how to bake bread|sushi|travel to Japan|hotels in Rome
|cheap flights|the moon landing|astronomy|Jupiter|string theory|the speed of light|chemistry|the periodic table|gold|diamonds
|poker|magic tricks|how to draw|Picasso|Van Gogh|architecture|bridges|the Titanic|submarines|trains|electric cars|batteries
|solar panels|nuclear energy|geometry|integrals|prime numbers|the Pythagorean theorem|statistics|grammar|Latin|Esperanto
|Don Quixote|poetry of Lorca|the Bible|Buddhism|psychology|dreams|love|friendship|politics|elections|economics|marketing
|startups|job interviews|my salary|a cover letter|an essay on democracy|the war|the royal family|celebrities|fashion|shoes
|the best laptop|how to build a house|plumbing|bees|ants|sharks|whales|mushrooms|trees|roses|deserts|rivers|Canada|Australia
|Napoleon|Cleopatra|Julius Caesar|Marie Curie|Isaac Newton|Darwin|Tesla|Elon Musk|Taylor Swift|Messi|Cervantes|Frida Kahlo""".replace(
    "\n", ""
).split("|")
TOPICS_ES = """la física cuántica|la Revolución francesa|los agujeros negros|la fotosíntesis|la bolsa|cómo cocinar paella|Shakespeare
|los resultados del fútbol|el mejor móvil|Bitcoin|el Imperio romano|cómo funcionan las vacunas|Albert Einstein|el ajedrez
|el sentido de la vida|la jardinería|cómo adelgazar|el tiempo en Marte|los dinosaurios|la historia de China
|la Segunda Guerra Mundial|cómo vuelan los aviones|el jazz|el cambio climático|cómo arreglar un coche|el presidente de Brasil
|la Torre Eiffel|recetas con pollo|cómo tejer|los impuestos|las redes neuronales|el corazón humano|el antiguo Egipto|Mozart
|los Beatles|la filosofía|Kant|Platón|la evolución|los volcanes|los terremotos|cómo tocar la guitarra|los Juegos Olímpicos|el tenis
|el baloncesto|el cine|La guerra de las galaxias|Harry Potter|los videojuegos|mi novia|mi examen de mañana|la lotería
|las noticias de hoy|la inflación|las hipotecas|la población de la India|la montaña más alta|los pingüinos|los gatos|los perros
|el yoga|la meditación|el dolor de espalda|la vitamina C|el café|el té|el vino|cómo hacer pan|el sushi|un viaje a Japón
|hoteles en Roma|vuelos baratos|la llegada a la Luna|la astronomía|Júpiter|la teoría de cuerdas|la velocidad de la luz|la química
|la tabla periódica|el oro|el póker|los trucos de magia|cómo dibujar|Picasso|la arquitectura|los puentes|el Titanic|los trenes
|los coches eléctricos|las baterías|los paneles solares|la energía nuclear|la geometría|las integrales|los números primos
|el teorema de Pitágoras|la estadística|la gramática|el latín|Don Quijote|la poesía de Lorca|la Biblia|el budismo|la psicología
|los sueños|el amor|la amistad|la política|las elecciones|la economía|el marketing|mi sueldo|una carta de presentación
|un ensayo sobre la democracia|la guerra|la familia real|los famosos|la moda|el mejor portátil|cómo construir una casa|las abejas
|las hormigas|los tiburones|las ballenas|las setas|los árboles|los desiertos|los ríos|Canadá|Australia|Napoleón|Cleopatra
|Julio César|Marie Curie|Isaac Newton|Darwin|Messi|Cervantes|Frida Kahlo|Gabriel García Márquez|el flamenco|los toros""".replace(
    "\n", ""
).split("|")

NAMES = [name.replace("_", " ") for name in NAMES]
CITIES = [city.replace("_", " ") for city in CITIES]


def half(words: Sequence[str], held: bool) -> list[str]:
    """Every eighth word is held out."""
    return [word for index, word in enumerate(words) if (index % 8 == 3) == held]


def code(rng: random.Random) -> str:
    """A random string nobody has seen: letters and digits."""
    letters = rng.choice((string.ascii_uppercase, string.ascii_lowercase, string.ascii_uppercase + string.digits))
    text = "".join(rng.choice(letters) for _ in range(rng.randint(2, 5)))
    return text + rng.choice(("", "-", "")) + str(rng.randint(0, 9999)) if rng.random() < 0.7 else text


def made_up(rng: random.Random) -> str:
    """A pronounceable word of random syllables."""
    return "".join(_syllable(rng) for _ in range(rng.randint(2, 4)))


def _syllable(rng: random.Random) -> str:
    return rng.choice("bcdfghjklmnprstvz") + rng.choice("aeiou") + rng.choice(("", "", "n", "r", "l", "s"))
