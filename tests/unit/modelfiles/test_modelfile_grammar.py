"""The grammar of Modelfiles with Ollama's error texts, and that what is written reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfiles.errors import ModelfileError
from modelfiles.modelfile import PARAMETERS, format_modelfile, format_parameters, parse

GOLDEN = Path(__file__).parents[2] / "golden" / "ollama-fb30760.jsonl"
COMMAND = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", '
    '"parameter", "message", or "requires"'
)

ERRORS = {
    "": "no FROM line",
    "SYSTEM hi": "no FROM line",
    "# FROM x\n": "no FROM line",
    "FROM": "unexpected EOF",
    "FROM\nx": f"(line 2): {COMMAND}",
    "FROM x\nBOGUS y": f"(line 2): {COMMAND}",
    "FROM x\nEMBED y\n": f"(line 2): {COMMAND}",
    "FROM x\n\n\nfoo-bar": f"(line 4): {COMMAND}",
    "FROM x\n  ! y": f"(line 2): {COMMAND}",
    'FROM x\nSYSTEM """abc': "unexpected EOF",
    'FROM x\nSYSTEM "abc\n': "unexpected EOF",
    "FROM x\nPARAMETER": "unexpected EOF",
    "FROM x\nPARAMETER num_ctx": "unexpected EOF",
    "FROM x\nPARAMETER num-ctx 3": "unexpected EOF: num",
    "FROM x\nMESSAGE tool hi": '(line 2): message role must be one of "system", "user", or "assistant"',
    "FROM x\nMESSAGE User hi": '(line 2): message role must be one of "system", "user", or "assistant"',
    "FROM x\nPARAMETER bogus 1": "unknown parameter 'bogus'",
    "FROM x\nPARAMETER num_ctx big": "invalid int value [big]",
    "FROM x\nPARAMETER num_ctx 4.5": "invalid int value [4.5]",
    "FROM x\nPARAMETER num_ctx 99999999999999999999": "invalid int value [99999999999999999999]",
    "FROM x\nPARAMETER temperature hot": "invalid float value [hot]",
    "FROM x\nPARAMETER temperature 1e99": "invalid float value [1e99]",
    "FROM x\nPARAMETER use_mmap yes": "invalid bool value [yes]",
    "FROM x\nREQUIRES new": "requires must be a valid semver (e.g. 0.14.0)",
    "FROM x\nREQUIRES 01.2": "requires must be a valid semver (e.g. 0.14.0)",
}


@pytest.mark.parametrize(("text", "error"), ERRORS.items(), ids=map(repr, ERRORS))
def test_errors_are_ollamas(text: str, error: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse(text)
    assert str(caught.value) == error


FULL = '''# comment
FROM  ./model.gguf
from ./mmproj.gguf
\tADAPTER ./lora.gguf
Draft ./draft.gguf
TEMPLATE """
{{ .Prompt }}
"""
SYSTEM You are "terse".   # no comment here
  # a comment after blanks
LICENSE MIT
LICENSE "two
lines"
PARAMETER temperature 0.5
PARAMETER temperature 1
PARAMETER seed -1
PARAMETER use_mmap false
PARAMETER kv_cache_type q8_0
PARAMETER stop "<|a|>"
PARAMETER   stop   b c
PARAMETER mirostat 1
PARAMETER low_vram true
MESSAGE user hi there
MESSAGE assistant """multi
line"""
RENDERER qwen3-coder
PARSER qwen3-coder
REQUIRES v0.14.0-rc1
'''


def test_everything_at_once() -> None:
    made = parse(FULL)
    assert made.sources == ("./model.gguf", "./mmproj.gguf")
    assert (made.adapters, made.drafts) == (("./lora.gguf",), ("./draft.gguf",))
    assert made.template == "\n{{ .Prompt }}\n"
    assert made.system == 'You are "terse".   # no comment here'
    assert made.licenses == ("MIT", "two\nlines")
    assert made.parameters == {
        "temperature": 1.0,
        "seed": -1,
        "use_mmap": False,
        "kv_cache_type": "q8_0",
        "stop": ["<|a|>", "b c"],
    }
    assert made.messages == (("user", "hi there"), ("assistant", "multi\nline"))
    assert (made.renderer, made.parser, made.requires) == ("qwen3-coder", "qwen3-coder", "v0.14.0-rc1")
    assert made.warnings == ("parameter mirostat is deprecated", "parameter low_vram is deprecated")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks(encoding: str) -> None:
    assert parse("FROM x\nSYSTEM ñandú 鳥".encode(encoding)).system == "ñandú 鳥"
    assert parse("\ufeffFROM x").sources == ("x",)


def test_line_ends() -> None:
    made = parse("FROM x\r\nSYSTEM hi\r\n\r\nPARAMETER top_k 3\r\n")
    assert (made.sources, made.system, made.parameters) == (("x",), "hi", {"top_k": 3})
    with pytest.raises(ModelfileError, match=r"\(line 3\)"):
        parse("FROM x\r\n\r\nBOGUS y\r\n")


def test_quotes() -> None:
    assert parse('FROM x\nSYSTEM """a"""').system == "a"
    assert parse('FROM x\nSYSTEM """"a" b"""').system == '"a" b'
    assert parse('FROM x\nSYSTEM "  a  "').system == "  a  "
    assert parse('FROM x\nSYSTEM ""').system == ""
    assert parse('FROM x\nSYSTEM "a" b\nc"').system == 'a" b\nc'


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters='\r"\x85'), max_size=30).map(
    lambda t: t.replace("\0", "")
)


@given(TEXTS, TEXTS, st.lists(TEXTS.filter(bool), max_size=3), st.lists(st.tuples(st.sampled_from(["user"]), TEXTS)))
def test_what_is_shown_reads_back(
    template: str, system: str, stops: list[str], messages: list[tuple[str, str]]
) -> None:
    parameters: dict[str, Any] = {"stop": stops, "temperature": 0.5, "num_ctx": 2048, "use_mmap": True}
    shown = format_modelfile(
        "m:latest",
        "base",
        template=template,
        system=system,
        parameters=parameters,
        messages=messages,
        licenses=[system],
    )
    made = parse(shown)
    assert (made.template or "", made.system or "") == (template, system)
    assert made.parameters == {k: v for k, v in parameters.items() if v != []}
    assert made.messages == tuple(messages)
    assert made.licenses == (system,)


def test_quotes_read_back() -> None:
    for text in ('"', 'a "b"', '"a" b', 'x\n"y"', ' "', 'a\n"'):
        assert parse(format_modelfile("m", "b", system=text)).system == text


SHOWS = [r for r in map(json.loads, GOLDEN.read_text().splitlines()) if r["request"]["path"] == "/api/show"]


@pytest.mark.parametrize("record", SHOWS, ids=lambda r: r["name"])
def test_shown_as_by_ollama(record: dict[str, Any]) -> None:
    answer = json.loads(record["answer"]["body"])
    made = parse(answer["modelfile"])
    assert made.template == answer["template"]
    name = record["request"]["body"]["json"]["model"] + ":latest"
    shown = format_modelfile(name, made.sources[0], template=made.template, parameters=made.parameters)
    assert shown == answer["modelfile"]
    assert format_parameters(made.parameters) == answer.get("parameters", "")


def test_parameters_as_shown() -> None:
    shown = format_parameters(
        {"temperature": 0.7, "num_ctx": 131072, "use_mmap": True, "stop": ['a"\n', "b"], "top_p": 1.0}
    )
    assert shown.splitlines() == [
        "temperature                    0.7",
        "num_ctx                        131072",
        "use_mmap                       true",
        'stop                           "a\\"\\n"',
        'stop                           "b"',
        "top_p                          1",
    ]


def test_parameters_are_the_servers_options() -> None:
    options = pytest.importorskip("server.options").OPTIONS
    kinds = {"integer": "int", "float32": "float", "boolean": "bool", "string": "string", "array": "strings"}
    known = {name: kinds[option.kind] for name, option in options.items() if option.kind in kinds}
    for name in ("mirostat", "mirostat_tau", "mirostat_eta"):
        known.pop(name)
    assert known == dict(PARAMETERS)
