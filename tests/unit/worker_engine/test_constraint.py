"""A random model that has to follow a schema writes only what the schema allows, and comes to an end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.errors import InvalidRequest
from server.types import LoadOptions, Sampling
from server.worker.backends.llamacpp.model import Model, Vocabulary
from server.worker.engine.constraint import Constraint, ConstraintError, Grammars
from server.worker.engine.sampling import Sampler, SamplingError

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[Vocabulary]:
    model = Model(str(GOLDEN / "models" / "nano.gguf"), LoadOptions(), vocab_only=True)
    yield model.vocabulary
    model.close()


@pytest.fixture(scope="module")
def grammars(vocabulary: Vocabulary) -> Grammars:
    return Grammars(vocabulary.pointer, vocabulary.n_vocab, sorted(vocabulary.eog), vocabulary.piece)


def write(vocabulary: Vocabulary, constraint: Constraint, seed: int, limit: int = 3000) -> str:
    """What the engine does, with a noise for a model that has a liking for closing brackets."""
    sampler = Sampler(Sampling(seed=seed, top_p=1.0, temperature=1.0), vocabulary.n_vocab, vocabulary.eog, [])
    random = np.random.default_rng(seed)
    ends = [t for t in range(vocabulary.n_vocab) if vocabulary.piece(t) in (b'"', b"}", b"]")] + list(vocabulary.eog)
    answer = b""
    for _ in range(limit):
        row = random.standard_normal(vocabulary.n_vocab).astype(np.float32)
        row[ends] += 1.5
        token = sampler.draw(row)
        if not constraint.allows(token):
            constraint.mask(row)
            token = sampler.draw(row)
            assert constraint.allows(token)
        if token in vocabulary.eog:
            break
        answer += b"".join(map(vocabulary.piece, (token, *forced_after(constraint, token))))
        if constraint.done:
            break
    else:
        pytest.fail(f"no end after {limit} tokens: {answer[-200:]!r}")
    sampler.close()
    return answer.decode()


def forced_after(constraint: Constraint, token: int) -> list[int]:
    constraint.accept(token)
    forced = constraint.forced()
    for other in forced:
        assert constraint.allows(other)
        constraint.accept(other)
    return forced


def integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def text(value: Any, pattern: str = "", flags: int = 0) -> bool:
    return isinstance(value, str) and bool(re.search(pattern, value, flags))


def thing(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


TREE = {
    "$ref": "#/$defs/node",
    "$defs": {"node": thing(["value"], value={"type": "integer"}, next={"anyOf": [{"$ref": "#/$defs/node"}]})},
}


def tree(value: Any) -> bool:
    return set(value) <= {"value", "next"} and integer(value["value"]) and ("next" not in value or tree(value["next"]))


FEATURES: dict[str, tuple[dict[str, Any], Callable[[Any], bool]]] = {
    "any": ({}, lambda v: True),
    "object": ({"type": "object"}, lambda v: isinstance(v, dict)),
    "string": ({"type": "string"}, text),
    "integer": ({"type": "integer"}, integer),
    "number": ({"type": "number"}, lambda v: isinstance(v, float | int)),
    "boolean": ({"type": "boolean"}, lambda v: isinstance(v, bool)),
    "null": ({"type": "null"}, lambda v: v is None),
    "types": ({"type": ["boolean", "null"]}, lambda v: v is None or isinstance(v, bool)),
    "enum": ({"enum": ["red", 7, None, {"a": [1]}]}, lambda v: v in ["red", 7, None, {"a": [1]}]),
    "const": ({"const": {"a": [True, "x"]}}, lambda v: v == {"a": [True, "x"]}),
    "range": ({"type": "integer", "minimum": -3, "maximum": 12}, lambda v: integer(v) and -3 <= v <= 12),
    "exclusive range": (
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1.5},
        lambda v: 0 < v < 1.5,
    ),
    "multipleOf": ({"type": "integer", "multipleOf": 7}, lambda v: v % 7 == 0),
    "length": ({"type": "string", "minLength": 3, "maxLength": 5}, lambda v: 3 <= len(v) <= 5),
    "pattern": ({"type": "string", "pattern": "^[a-c]{2,4}-\\d$"}, lambda v: text(v, "^[a-c]{2,4}-[0-9]$")),
    "date-time": ({"type": "string", "format": "date-time"}, lambda v: text(v, r"^\d{4}-\d\d-\d\d[Tt]\d\d:")),
    "date": ({"type": "string", "format": "date"}, lambda v: text(v, r"^\d{4}-\d\d-\d\d$")),
    "time": ({"type": "string", "format": "time"}, lambda v: text(v, r"^\d\d:\d\d:\d\d")),
    "duration": ({"type": "string", "format": "duration"}, lambda v: text(v, "^P")),
    "email": ({"type": "string", "format": "email", "maxLength": 40}, lambda v: text(v, "^.+@.+$", re.DOTALL)),
    "hostname": ({"type": "string", "format": "hostname"}, lambda v: text(v, "^[a-zA-Z0-9.-]+$")),
    "ipv4": ({"type": "string", "format": "ipv4"}, lambda v: text(v, r"^(\d{1,3}\.){3}\d{1,3}$")),
    "ipv6": ({"type": "string", "format": "ipv6"}, lambda v: text(v, "^[0-9a-fA-F:.]+$")),
    "uri": ({"type": "string", "format": "uri"}, lambda v: text(v, "^[a-zA-Z][a-zA-Z0-9+.-]*:")),
    "uuid": ({"type": "string", "format": "uuid"}, lambda v: text(v, "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-")),
    "array": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
        lambda v: 2 <= len(v) <= 4 and all(map(integer, v)),
    ),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}], "items": False, "minItems": 2},
        lambda v: len(v) == 2 and integer(v[0]) and v[1] is None,
    ),
    "nested": (
        thing(["a"], a=thing(["b"], b={"type": "array", "items": {"type": "boolean"}})),
        lambda v: set(v) == set("a") and set(v["a"]) == set("b") and isinstance(v["a"]["b"], list),
    ),
    "optional": (
        thing(["b"], a={"type": "null"}, b={"type": "boolean"}, c={"type": "null"}),
        lambda v: "b" in v and set(v) <= set("abc") and list(v) == sorted(v),
    ),
    "open object": (
        {**thing(["a"], a={"type": "null"}), "additionalProperties": {"type": "integer"}},
        lambda v: "a" in v and all(integer(v[k]) for k in v if k != "a"),
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 3},
        lambda v: len(v) <= 3 and all(isinstance(x, bool) for x in v.values()),
    ),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^[xy]$": {"type": "integer"}}, "additionalProperties": False},
        lambda v: set(v) <= set("xy") and all(map(integer, v.values())),
    ),
    "anyOf": ({"anyOf": [{"type": "integer"}, thing(["a"], a={})]}, lambda v: integer(v) or set(v) == {"a"}),
    "oneOf": (
        {"oneOf": [thing(["t"], t={"const": "p"}, x={"type": "null"}), thing(["t"], t={"const": "q"})]},
        lambda v: v["t"] in "pq" and ("x" not in v or v["t"] == "p"),
    ),
    "allOf": (
        {"allOf": [thing(["a"], a={"type": "integer"}), thing(["b"], b={"type": "boolean"})]},
        lambda v: integer(v["a"]) and isinstance(v["b"], bool),
    ),
    "definitions": (
        {"type": "array", "items": {"$ref": "#/definitions/x"}, "definitions": {"x": {"enum": [1, 2]}}, "maxItems": 5},
        lambda v: all(x in (1, 2) for x in v),
    ),
    "recursion": (TREE, tree),
    "annotations": (
        {
            "$schema": "https://example.com/own", "$id": "https://example.com/x", "title": "t", "description": "d",
            "default": 1, "examples": ["x"], "deprecated": True, "$comment": "c", "nullable": True, "x-order": 3,
            "type": "string", "format": "colour", "maxLength": 4, "uniqueItems": False,
        },
        lambda v: text(v) and len(v) <= 4,
    ),
    "the compiler's own options": ({"type": "boolean", "x-guidance": {"lenient": 7}}, lambda v: isinstance(v, bool)),
}  # fmt: skip


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature(vocabulary: Vocabulary, grammars: Grammars, name: str) -> None:
    schema, valid = FEATURES[name]
    for seed in range(12):
        answer = write(vocabulary, grammars.compile(schema), seed)
        assert valid(json.loads(answer)), answer


def test_json_mode_is_an_object(vocabulary: Vocabulary, grammars: Grammars) -> None:
    for seed in range(20):
        assert isinstance(json.loads(write(vocabulary, grammars.compile("json"), seed)), dict)


def test_an_answer_of_real_ollama_is_a_whole_answer_here(vocabulary: Vocabulary, grammars: Grammars) -> None:
    """White space of the recorded answer is within what the grammar allows, and the answer is complete with its end."""
    lines = (GOLDEN / "ollama-fb30760.jsonl").read_text().splitlines()
    record = next(r for r in map(json.loads, lines) if r["name"] == "generate: format schema")
    answer = json.loads(record["answer"]["body"])["response"]
    constraint = grammars.compile(record["request"]["body"]["json"]["format"])
    for token in vocabulary.tokenize(answer, add_special=False, parse_special=False):
        assert not constraint.done
        constraint.accept(token)
    assert constraint.done


@pytest.mark.parametrize("text", ['{\n\n\n"a"', '{  "a"', ' {"a"', '{"a" :  '])
def test_white_space_is_bounded(vocabulary: Vocabulary, grammars: Grammars, text: str) -> None:
    constraint = grammars.compile(thing(["a"], a={"type": "integer"}))
    *most, last = vocabulary.tokenize(text, add_special=False, parse_special=False)
    while most and constraint.allows(most[0]):
        constraint.accept(most.pop(0))
    wrong = most[0] if most else last
    assert not constraint.allows(wrong)
    with pytest.raises(SamplingError, match="cannot follow its format"):
        constraint.accept(wrong)


def test_every_end_of_generation_token_ends_a_complete_answer(vocabulary: Vocabulary, grammars: Grammars) -> None:
    constraint = grammars.compile({"type": "integer"})
    eog = vocabulary.eog
    assert len(eog) > 1
    assert not any(constraint.allows(token) for token in eog)
    for token in vocabulary.tokenize("12", add_special=False, parse_special=False):
        constraint.accept(token)
    assert not constraint.done
    assert all(constraint.allows(token) for token in eog)
    row = np.zeros(vocabulary.n_vocab, np.float32)
    constraint.mask(row)
    allowed = set(np.flatnonzero(row == 0).tolist())
    assert eog <= allowed
    assert allowed == {t for t in range(vocabulary.n_vocab) if constraint.allows(t)}


def test_special_tokens_are_never_part_of_an_answer(vocabulary: Vocabulary, grammars: Grammars) -> None:
    constraint = grammars.compile({"type": "string"})
    constraint.accept(vocabulary.tokenize('"', add_special=False, parse_special=False)[0])
    special = [t for t in range(vocabulary.n_vocab) if re.fullmatch(rb"<.+>", vocabulary.piece(t))]
    assert len(special) > 3
    assert not any(constraint.allows(token) for token in special)


def test_sequences_of_one_grammar_are_independent(vocabulary: Vocabulary, grammars: Grammars) -> None:
    schema = {"type": "object"}
    first, second = grammars.compile(schema), grammars.compile(schema)
    brace = vocabulary.tokenize("{", add_special=False, parse_special=False)[0]
    first.accept(brace)
    assert second.allows(brace)
    assert grammars.compile(schema).allows(brace)


def test_key_order_makes_another_grammar(vocabulary: Vocabulary, grammars: Grammars) -> None:
    properties = {"a": {"const": 1}, "b": {"const": 2}}
    for keys in ("ab", "ba"):
        constraint = grammars.compile(thing(list(keys), **{key: properties[key] for key in keys}))
        assert list(json.loads(write(vocabulary, constraint, 1))) == list(keys)


def test_lark_grammars(vocabulary: Vocabulary, grammars: Grammars) -> None:
    for seed in range(5):
        assert write(vocabulary, grammars.compile_lark('start: "yes" | "no"'), seed) in ("yes", "no")
    with pytest.raises(ConstraintError):
        grammars.compile_lark("start: nowhere")


REFUSED: dict[str, tuple[Any, str]] = {
    "a list": ([1], 'expected "json" or a valid JSON Schema object'),
    "a word": ("yaml", 'expected "json"'),
    "not": ({"not": {"type": "null"}}, '"not" ($.not)'),
    "uniqueItems": (thing([], a={"type": "array", "uniqueItems": True}), '"uniqueItems" ($.properties.a.uniqueItems)'),
    "if": ({"if": {}, "then": {}}, '"if"'),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, '"dependentRequired"'),
    "propertyNames": ({"propertyNames": {"pattern": "a"}}, '"propertyNames"'),
    "foreign reference": ({"$ref": "https://example.com/schema"}, "must point into the schema itself"),
    "dangling reference": ({"$ref": "#/$defs/x"}, "$defs/x"),
    "reference to nothing but itself": ({"$ref": "#"}, "nothing can satisfy it"),
    "look-around": ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    "unknown type": ({"type": "text"}, "text"),
    "contradiction": ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
    "overlapping oneOf": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "exclude each other"),
    "no number": ({"const": float("nan")}, "not JSON"),
    "no schema": ({"type": "object", "properties": {"a": 7}}, "$.properties.a must be an object"),
    "lone surrogate": ({"const": "\ud800"}, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_obeyed_is_refused_by_name(grammars: Grammars, name: str) -> None:
    schema, says = REFUSED[name]
    with pytest.raises(ConstraintError) as caught:
        grammars.compile(schema)
    assert isinstance(caught.value, InvalidRequest)
    assert caught.value.message.startswith("invalid format: ")
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(levels):
        schema = thing(["a"], a=schema)
    return schema


def branches(count: int, offset: int = 0) -> dict[str, Any]:
    return {"anyOf": [thing([f"p{offset}_{i}"], **{f"p{offset}_{i}": {"type": "integer"}}) for i in range(count)]}


def pattern(size: int) -> dict[str, Any]:
    return {"type": "string", "pattern": f"(a|b)*a(a|b){{{size}}}c"}


BOMBS: dict[str, Any] = {
    "deep": deep(40),
    "very deep": {"const": json.loads("[" * 900 + "]" * 900)},
    "wide": {"allOf": [{} for _ in range(2001)]},
    "long": {"enum": ["x" * 300_000]},
    "product of alternatives": {"allOf": [branches(4, i) for i in range(8)]},
    "product of two": {"allOf": [branches(300), branches(300, 1)]},
    "laid over patterns": {"allOf": [pattern(i) for i in range(5, 45)]},
    "many pattern properties": {"allOf": [{"patternProperties": {f"^a{i}.*b{{3}}$": {}}} for i in range(100)]},
    "nested repetition": {"type": "string", "pattern": "^((((a{100}){100}){100}){100}){100}$", "minLength": 10},
    "too exact a multiple": {"type": "integer", "multipleOf": 1_000_000_007},
    "endless lengths": {"type": "string", "minLength": 10**18},
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_time(grammars: Grammars, name: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(ConstraintError):
        grammars.compile(BOMBS[name])
    assert time.perf_counter() - begun < 2


HARMLESS: dict[str, dict[str, Any]] = {
    "30 levels": deep(30),
    "600 optional properties": thing([], **{f"p{i}": {"type": "string", "maxLength": 100} for i in range(600)}),
    "a large enum": {"enum": [f"value {i}" for i in range(5000)]},
    "references in powers of two": {
        "$ref": "#/$defs/d0",
        "$defs": {
            "d25": {"type": "null"},
            **{f"d{i}": thing([], a={"$ref": f"#/$defs/d{i + 1}"}, b={"$ref": f"#/$defs/d{i + 1}"}) for i in range(25)},
        },
    },
    "nested repetition": {"type": "string", "pattern": "^(a+)+$"},
    "a great length": {"type": "string", "maxLength": 100_000},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_large_but_honest_schemas_compile_in_time(grammars: Grammars, name: str) -> None:
    begun = time.perf_counter()
    grammars.compile(HARMLESS[name])
    assert time.perf_counter() - begun < 2


def test_compiled_grammars_are_kept_within_bounds(vocabulary: Vocabulary) -> None:
    grammars = Grammars(vocabulary.pointer, vocabulary.n_vocab, sorted(vocabulary.eog), vocabulary.piece)
    for number in range(80):
        grammars.compile({"const": number})
    assert len(grammars._compiled) == 64
