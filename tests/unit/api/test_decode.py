"""Bodies as Go decodes them: what passes, and in which words the rest is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.api.decode import decode, unbase64
from server.api.gojson import GoSyntaxError, encode, first_value, timestamp
from server.api.requests import CHAT, EMBED, GENERATE, FormatError, chat_request, completion_request, tools
from server.errors import InvalidRequest
from server.options import OptionError


def refusal(body: str | bytes, struct: Any = GENERATE) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode(body.encode() if isinstance(body, str) else body, struct)
    assert caught.value.status == 400
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ('{"model":"a"}', {"model": "a"}),
        ('{"MODEL":"a","Prompt":"b"}', {"model": "a", "prompt": "b"}),
        ('{"model":"a","model":"b"}', {"model": "b"}),
        ('{"model":"a","MODEL":"b","model":"c"}', {"model": "c"}),
        ('{"model":"a","MODEL":"b"}', {"model": "b"}),
        ('{"model":null,"unknown":{"x":[1]},"stream":false}', {"stream": False}),
        ('  {"model":"a"} and what follows', {"model": "a"}),
        ('{"model":"\\ud83d\\ude00\\u0000"}', {"model": "😀\0"}),
        ("null", {}),
        ('{"context":[1,null,2]}', {"context": [1, None, 2]}),
        ('{"keep_alive":-1.0}', {"keep_alive": -1.0}),
        ('{"keep_alive":"1h30m"}', {"keep_alive": 5400.0}),
        ('{"keep_alive":"-3s"}', {"keep_alive": -1.0}),
        ('{"keep_alive":1e300}', {"keep_alive": -1.0}),
        ('{"images":["aGk="]}', {"images": [b"hi"]}),
        ('{"think":"high"}', {"think": "high"}),
    ],
)
def test_what_passes(body: str, fields: dict[str, Any]) -> None:
    assert decode(body.encode(), GENERATE) == fields


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "missing request body"),
        (" \n", "missing request body"),
        ("{bad", "invalid character 'b' looking for beginning of object key string"),
        ("{", "unexpected EOF"),
        ('{"model"', "unexpected EOF"),
        ('{"model" 1}', "invalid character '1' after object key"),
        ('{"model":"a",}', "invalid character '}' looking for beginning of object key string"),
        ('{"model":"a" "b"}', "invalid character '\"' after object key:value pair"),
        ('{"context":[1 2]}', "invalid character '2' after array element"),
        ('{"context":[1,]}', "invalid character ']' looking for beginning of value"),
        ("model=x", "invalid character 'm' looking for beginning of value"),
        ("'x'", "invalid character '\\'' looking for beginning of value"),
        ('{"stream":tru}', "invalid character '}' in literal true (expecting 'e')"),
        ('{"stream":nulL}', "invalid character 'L' in literal null (expecting 'l')"),
        ('{"context":[01]}', "invalid character '1' after array element"),
        ('{"context":[1.]}', "invalid character ']' after decimal point in numeric literal"),
        ('{"context":[-x]}', "invalid character 'x' in numeric literal"),
        ('{"context":[1ex]}', "invalid character 'x' in exponent of numeric literal"),
        ('{"model":"a\nb"}', "invalid character '\\n' in string literal"),
        ('{"model":"\\x"}', "invalid character 'x' in string escape code"),
        ('{"model":"\\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
        ('{"options":{"temperature":NaN}}', "invalid character 'N' looking for beginning of value"),
        ('{"options":{"temperature":Infinity}}', "invalid character 'I' looking for beginning of value"),
        ("[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        ('"x"', "json: cannot unmarshal string into Go value of type api.GenerateRequest"),
        ("7", "json: cannot unmarshal number into Go value of type api.GenerateRequest"),
        ('{"model":1}', "json: cannot unmarshal number into Go struct field GenerateRequest.model of type string"),
        ('{"stream":"x"}', "json: cannot unmarshal string into Go struct field GenerateRequest.stream of type bool"),
        ('{"raw":1}', "json: cannot unmarshal number into Go struct field GenerateRequest.raw of type bool"),
        ('{"top_logprobs":1.5}',
         "json: cannot unmarshal number 1.5 into Go struct field GenerateRequest.top_logprobs of type int"),
        ('{"context":"x"}', "json: cannot unmarshal string into Go struct field GenerateRequest.context of type []int"),
        ('{"options":[]}',
         "json: cannot unmarshal array into Go struct field GenerateRequest.options of type map[string]interface {}"),
        ('{"keep_alive":"10"}', 'time: missing unit in duration "10"'),
        ('{"keep_alive":""}', 'time: invalid duration ""'),
        ('{"keep_alive":"x"}', 'time: invalid duration "x"'),
        ('{"keep_alive":"5y"}', 'time: unknown unit "y" in duration "5y"'),
        ('{"keep_alive":true}', "Unsupported type: 'bool'"),
        ('{"think":"bad"}',
         'invalid think value: "bad" (must be "high", "medium", "low", "max", true, or false)'),
        ('{"think":3}', 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ('{"images":["@@"]}', "illegal base64 data at input byte 0"),
        ('{"images":["aGVsbG8"]}', "illegal base64 data at input byte 4"),
    ],
)  # fmt: skip
def test_refusals_of_generate(body: str, text: str) -> None:
    assert refusal(body) == text


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ('{"content":[{"type":"text"}]}',
         "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"),
        ("3", "json: cannot unmarshal number into Go struct field ChatRequest.messages of type api.Alias"),
        ('{"tool_calls":[{"function":{"name":3}}]}',
         "json: cannot unmarshal number into Go struct field ChatRequest.messages.tool_calls.function.name of type "
         "string"),
        ('{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}',
         "Value looks like object, but can't find closing '}' symbol"),
    ],
)  # fmt: skip
def test_refusals_of_chat(message: str, text: str) -> None:
    assert refusal(f'{{"messages":[{message}]}}', CHAT) == text


def test_nested_structs_are_named_by_the_innermost() -> None:
    text = refusal('{"tools":[{"type":"function","function":{"name":3}}]}', CHAT)
    assert text == "json: cannot unmarshal number into Go struct field ToolFunction.tools.function.name of type string"


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"\\ud800"}',
        b'{"model":"\xff"}',
        '{"options":{"a":' + "9" * 400 + "}}",
        '{"options":{"a":1e999}}',
        '{"format":' + "[" * 65 + "]" * 65 + "}",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"context":[18446744073709551616]}',
        '{"images":' + json.dumps(["aGk="] * 17) + "}",
    ],
)
def test_what_go_lets_pass_and_we_do_not(body: str | bytes) -> None:
    assert refusal(body)


def test_depth_is_allowed_up_to_the_limit() -> None:
    assert decode(('{"format":' + "[" * 63 + "]" * 63 + "}").encode(), GENERATE)


@pytest.mark.parametrize(
    ("text", "at"),
    [("@@", 0), ("aGV@", 3), ("a", 0), ("aGVsbG8", 4), ("aG=x", 3), ("aG==x", 4), ("aG=", 3), ("=", 0), ("aG\n@=", 3)],
)
def test_where_base64_breaks(text: str, at: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        unbase64(text)
    assert caught.value.message == f"illegal base64 data at input byte {at}"


def test_base64_may_hold_line_breaks() -> None:
    assert unbase64("aGVs\r\nbG8=") == b"hello"


TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
FIELDS = st.sampled_from([*CHAT.fields, *GENERATE.fields, "input", "dimensions", "MODEL", "other"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(FIELDS, JSON, max_size=6))
def test_any_json_is_read_or_refused(body: dict[str, Any]) -> None:
    for struct, convert in ((GENERATE, completion_request), (CHAT, chat_request), (EMBED, dict)):
        with contextlib.suppress(InvalidRequest, OptionError, FormatError):
            convert(decode(json.dumps(body).encode(), struct))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text('{}[],:"\\u0e+-.1tfn ', max_size=30).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        decode(body, GENERATE)


@settings(max_examples=300, deadline=None)
@given(JSON, st.integers(0, 60))
def test_the_slow_scanner_agrees_with_the_parser(value: Any, cut: int) -> None:
    text = json.dumps(value).encode()
    assert first_value(text + b" rest") == text
    if isinstance(value, dict | list | str) and cut < len(text):
        with pytest.raises(GoSyntaxError, match="unexpected EOF"):
            first_value(text[:cut])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b"[" + b"0," * 2**22 + b"x",
            "the request body is not valid JSON: unexpected character, expected a JSON value",
        ),
        (b"[" * 2**23, "exceeded max depth"),
        (b'{"a":' * 2**20, "exceeded max depth"),
        (b'{"model":"' + rb"\u0041" * 2**20 + b'"x', "invalid character 'x' after object key:value pair"),
        (b'{"prompt":[' + b"0," * 2**22 + b"0]} x", "json: cannot unmarshal array"),
        (b'{"model":"","Model":"' + b"x" * 2**20 + b'"}', "the request spells one field in two ways"),
        (b'{"images":["' + b"A" * 2**23 + b'!"]}', f"illegal base64 data at input byte {2**23}"),
    ],
)
def test_no_body_holds_up_the_others(body: bytes, text: str) -> None:
    """Each needs no walk in Python over all of it, which would take minutes in which nobody else is answered."""
    with pytest.raises(InvalidRequest) as caught:
        decode(body, GENERATE)
    assert caught.value.message.startswith(text)


def test_go_escapes() -> None:
    found = encode({"a<b>&": "\u2028\u2029\u0085\t\x7f é\x08"})
    assert found == rb'{"a\u003cb\u003e\u0026":"\u2028\u2029\u0085\t' + b"\x7f \xc3\xa9" + rb'\b"}'


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_795_175_127_090_129_283, "2026-11-20T11:45:27.090129283Z"),
        (1_795_175_127_500_000_000, "2026-11-20T11:45:27.5Z"),
    ],
)
def test_timestamps(ns: int, text: str) -> None:
    assert timestamp(ns) == text


def test_tools_stand_in_the_order_of_ollamas_structs_and_lose_nothing() -> None:
    given_tool = {
        "function": {
            "parameters": {
                "properties": {"n": {"minimum": 1, "description": "d", "type": ["integer"]}, "a": {"type": "string"}},
                "additionalProperties": False,
                "required": ["n"],
                "type": "object",
            },
            "name": "f",
        },
        "type": "function",
    }
    fields = decode(json.dumps({"tools": [given_tool]}).encode(), CHAT)
    (tool,) = tools(fields["tools"])
    assert json.dumps(tool) == json.dumps(
        {
            "type": "function",
            "function": {
                "name": "f",
                "parameters": {
                    "type": "object",
                    "required": ["n"],
                    "properties": {
                        "n": {"type": "integer", "description": "d", "minimum": 1},
                        "a": {"type": "string"},
                    },
                    "additionalProperties": False,
                },
            },
        }
    )
