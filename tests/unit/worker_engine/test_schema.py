"""How a client's schema is made ready: what is left out, what is closed, what stays open."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.worker.engine.schema import ConstraintError, prepare


def prepared(schema: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(prepare(schema))
    return result


def test_an_object_with_properties_is_closed_at_every_level() -> None:
    schema: dict[str, Any] = {"properties": {"a": {"properties": {"b": {}}}}, "$defs": {"x": {"properties": {"c": {}}}}}
    result = prepared(schema)
    assert result["additionalProperties"] is False
    assert result["properties"]["a"]["additionalProperties"] is False
    assert result["$defs"]["x"]["additionalProperties"] is False
    assert "additionalProperties" not in schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "patternProperties": {"^b": {}}},
        {"properties": {"a": {}}, "required": ["b"]},
        {"properties": {"a": {}}, "minProperties": 2},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "$ref": "#/$defs/b", "$defs": {"b": {"properties": {"b": {}}}}},
    ],
)
def test_what_would_not_fit_closed_stays_open(schema: dict[str, Any]) -> None:
    assert prepared(schema) == schema


def test_keywords_are_told_from_property_names() -> None:
    names = {"not": {}, "$ref": {}, "format": {"type": "null"}, "uniqueItems": {}, "x-guidance": {}, "$id": {}}
    assert prepared({"properties": names})["properties"] == names


def test_annotations_that_would_mislead_the_compiler_are_left_out() -> None:
    schema = {"$id": "x", "$schema": "y", "format": "colour", "uniqueItems": False, "x-guidance": {}, "title": "t"}
    assert prepared(schema) == {"title": "t"}
    known = {"$schema": "http://json-schema.org/draft-07/schema#", "format": "date"}
    assert prepared(known) == known


def test_names_stay_in_their_order() -> None:
    names = ["z", "a", "m"]
    assert list(prepared({"properties": {name: {} for name in names}})["properties"]) == names


@pytest.mark.parametrize("schema", [{"properties": {"a": 3}}, {"items": "x"}, {"anyOf": [None]}])
def test_what_is_no_schema_is_named(schema: dict[str, Any]) -> None:
    with pytest.raises(ConstraintError, match=r"\$\.\S+ must be an object"):
        prepare(schema)
