"""How people really type: lower case, missing accents and question marks, a slip of the finger."""

from __future__ import annotations

import random
import unicodedata


def plain(text: str) -> str:
    """Without accents (ñ becomes n), as many people type Spanish."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def slip(text: str, rng: random.Random) -> str:
    """One typing slip inside a word of plain letters, never in a name in capitals or with signs."""
    words = text.split(" ")
    spots = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha() and word.islower()]
    if not spots:
        return text
    spot = rng.choice(spots)
    word = words[spot]
    at = rng.randrange(1, len(word) - 1)
    match rng.randrange(3):
        case 0:
            word = word[:at] + word[at + 1 :]
        case 1:
            word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case _:
            word = word[:at] + word[at] + word[at:]
    words[spot] = word
    return " ".join(words)


def question(text: str, lang: str, rng: random.Random, asks: bool = True) -> str:
    """`text` (lower-case start, no marks) as someone would type it."""
    if lang == "es":
        text = text.replace(" de el ", " del ").replace(" a el ", " al ")
        if rng.random() < 0.35:
            text = plain(text)
    if rng.random() < 0.12:
        text = slip(text, rng)
    if rng.random() < 0.55:
        text = text[:1].upper() + text[1:]
    if not asks:
        return text + rng.choice(("", "", ".", "."))
    mark = rng.random()
    if lang == "es" and mark < 0.4:
        return f"¿{text}?"
    return text + ("?" if mark < 0.75 else "")
