"""The test sets: phrasings, tools, schemas and sums that no training text contains, all made from a fixed seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from guide import corpus_chat, corpus_copy, corpus_facts, corpus_first, corpus_json, corpus_tools, facts
from guide.facts import LANGUAGES
from guide.frames import HELD
from guide.prompt import Conversation, Message, answer_text
from guide.strangers import QUESTIONS

SEED = "held out"


@dataclass(frozen=True, slots=True)
class Case:
    """`talk` ends with the turn to answer; `right` is the wanted text, or a regular expression for `strangers`."""

    group: str
    lang: str
    talk: Conversation
    right: str


def cases() -> list[Case]:
    return [*fact_cases(), *stranger_cases(), *rule_cases(150)]


def fact_cases(think: bool = False) -> list[Case]:
    made = corpus_facts.held_out(facts.load(), SEED)
    group = "facts, thinking" if think else "facts"
    return [
        Case(group, lang, Conversation(group, [Message("user", asked)], think=think, compact=think), fact.say[lang])
        for fact, lang, asked in made
    ]


def stranger_cases() -> list[Case]:
    return [
        Case("strangers", lang, Conversation("strangers", [Message("user", asked)]), pattern)
        for lang, asked, pattern in QUESTIONS
    ]


def rule_cases(count: int) -> list[Case]:
    """Everything that is made by rule, from the held-out halves of its word lists."""
    rng = random.Random(SEED)
    made = []
    for index in range(count):
        lang = LANGUAGES[index % 2]
        first, last = corpus_copy.introduction(lang, rng, held=True)
        talks = {
            "tools": corpus_tools.conversation(rng, held=True),
            "json": corpus_json.conversation(rng, held=True),
            "copy": corpus_copy.repeat(lang, rng, held=True),
            "memory": Conversation("memory", first + last),
            "common questions": corpus_first.conversation(lang, rng, held=True),
            "I don't know": corpus_chat.unknown(lang, rng, held=True),
        }
        for group, talk in talks.items():
            made += _cut(group, lang, talk)
    return made


def _cut(group: str, lang: str, talk: Conversation) -> list[Case]:
    """One case for the call, one for the answer after a tool's result; otherwise one for the last answer."""
    answers = [index for index, message in enumerate(talk.messages) if message.role == "assistant"]
    if group != "tools":
        answers = answers[-1:]
    made = []
    for index in answers:
        answer = talk.messages[index]
        name = "tool results" if group == "tools" and index > answers[0] else group
        begun = Conversation(talk.kind, talk.messages[:index], talk.tools, compact=talk.compact)
        made.append(Case(name, lang, begun, answer_text(answer)))
    return made


def template_count() -> int:
    """How many sentence templates for facts are held out: frames and whole questions."""
    frames = sum(len(frames) for kinds in HELD.values() for frames in kinds.values())
    return frames + sum(len(fact.held[lang]) for fact in facts.load() for lang in LANGUAGES)
