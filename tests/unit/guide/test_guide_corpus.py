"""The corpus of the built-in model: made alike every time, and nothing of the test sets in it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from guide import corpus, corpus_facts, facts, frames, held, noise, words  # noqa: E402
from guide.prompt import Conversation, segments  # noqa: E402

SCALE = 0.05


@pytest.fixture(scope="module")
def talks() -> list[Conversation]:
    return corpus.training(1, SCALE)


def texts(talks: list[Conversation]) -> list[str]:
    return ["".join(text for text, _ in segments(talk)) for talk in talks]


def bare(text: str) -> str:
    """Letters only, so that marks, case and accents cannot hide a leak."""
    return " ".join(re.findall(r"[a-z0-9_]+", noise.plain(text).lower()))


def questions(talks: list[Conversation]) -> Iterator[str]:
    return (bare(message.content) for talk in talks for message in talk.messages if message.role == "user")


def test_the_corpus_is_the_same_every_time(talks: list[Conversation]) -> None:
    assert texts(corpus.training(1, SCALE)) == texts(talks)


def test_another_seed_makes_another_corpus(talks: list[Conversation]) -> None:
    assert texts(corpus.training(2, SCALE)) != texts(talks)


def test_at_least_two_hundred_templates_are_held_out() -> None:
    assert held.template_count() >= 200


@pytest.mark.parametrize("lang", ["en", "es"])
@pytest.mark.parametrize("kind", ["np", "do", "ask"])
def test_no_held_out_frame_is_a_training_frame(lang: str, kind: str) -> None:
    trained = {bare(frame) for frame in frames.TRAIN[lang][kind]}
    kept = [bare(frame) for frame in frames.HELD[lang][kind]]
    assert len(set(kept)) == len(kept)
    assert not trained & set(kept)


def test_no_test_question_occurs_in_training_text(talks: list[Conversation]) -> None:
    trained = set(questions(talks))
    cases = [*held.fact_cases(), *held.stranger_cases()]
    assert [case for case in cases if bare(case.talk.messages[-1].content) in trained] == []


def test_no_held_out_frame_occurs_in_training_text(talks: list[Conversation]) -> None:
    """The fixed words of a frame (four or more of them) stand in no training question about a fact."""
    trained = list(questions([talk for talk in talks if talk.kind == "facts"]))
    fixed = {
        bare(part) for kinds in frames.HELD.values() for all_frames in kinds.values() for frame in all_frames
        for part in frame.split("{}") if len(bare(part).split()) >= 4
    }  # fmt: skip
    assert len(fixed) > 60
    assert [part for part in fixed for text in trained if part in text] == []


def test_every_fact_is_asked_in_both_languages(talks: list[Conversation]) -> None:
    answers = {talk.messages[-1].content for talk in talks if talk.kind == "facts"}
    for fact in facts.load():
        assert {fact.say["en"], fact.say["es"]} <= answers


def test_no_phrase_asks_for_two_facts() -> None:
    asked: dict[tuple[str, str], str] = {}
    for fact in facts.load():
        for lang in facts.LANGUAGES:
            for kind in ("np", "do", "ask"):
                for text in getattr(fact, kind)[lang]:
                    assert asked.setdefault((lang, bare(text)), fact.name) == fact.name


def test_halves_of_a_word_list_do_not_meet() -> None:
    assert not set(words.half(words.WORDS, held=True)) & set(words.half(words.WORDS, held=False))


def test_held_out_tools_are_not_trained_on(talks: list[Conversation]) -> None:
    trained = {tool["function"]["description"] for talk in talks for tool in talk.tools}
    tested = {tool["function"]["description"] for case in held.rule_cases(60) for tool in case.talk.tools}
    assert not trained & tested


def test_thoughts_stand_only_where_the_prompt_opens_them(talks: list[Conversation]) -> None:
    for talk in talks:
        for text, learn in segments(talk):
            assert not (learn and "<think>" in text)


def test_held_out_questions_cover_both_languages() -> None:
    made = corpus_facts.held_out(facts.load(), held.SEED)
    assert min(sum(lang == wanted for _, lang, _ in made) for wanted in facts.LANGUAGES) >= 200
