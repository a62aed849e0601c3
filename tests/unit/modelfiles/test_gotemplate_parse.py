"""Go's grammar: what parses, and Go's own words for what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfiles.errors import TemplateError
from modelfiles.gotemplate import Template

ERRORS = {
    "{{ if .X": "template: :1: unclosed action",
    "{{": "template: :1: unclosed action",
    "a\n\n{{ .X": "template: :3: unclosed action",
    "{{ if .X\n\n": "template: :3: unclosed action started at :1",
    "{{ if .X }}": "template: :1: unexpected EOF",
    "{{ range .X }}{{ else }}": "template: :1: unexpected EOF",
    "a{{ end }}": "template: :1: unexpected {{end}}",
    "a{{ else }}b": "template: :1: unexpected {{else}}",
    "{{ if .X }}{{ else }}{{ else }}{{ end }}": "template: :1: expected end; found {{else}}",
    "{{ foo }}": 'template: :1: function "foo" not defined',
    "{{ foo": 'template: :1: function "foo" not defined',
    "\n{{ .X | bar }}": 'template: :2: function "bar" not defined',
    "{{ $x }}": 'template: :1: undefined variable "$x"',
    "{{ if $x := .A }}{{ end }}{{ $x }}": 'template: :1: undefined variable "$x"',
    "{{ }}": "template: :1: missing value for command",
    "{{ if }}{{ end }}": "template: :1: missing value for if",
    "{{ range }}{{ end }}": "template: :1: missing value for range",
    "{{ .X ! }}": "template: :1: unrecognized character in action: U+0021 '!'",
    "{{ .X! }}": "template: :1: bad character U+0021 '!'",
    '{{ "a }}': "template: :1: unterminated quoted string",
    "{{ `a }}": "template: :1: unterminated raw quoted string",
    "{{ 'a }}": "template: :1: unterminated character constant",
    "{{ (.X }}": "template: :1: unclosed left paren",
    "{{ .X) }}": "template: :1: unexpected right paren",
    "{{/* x }}": "template: :1: unclosed comment",
    "{{/* x */ .X }}": "template: :1: comment ends before closing delimiter",
    "{{ .X | 1 }}": "template: :1: non executable command in pipeline stage 2",
    "{{ 1.2.3 }}": 'template: :1: unexpected ".3" in operand',
    "{{ 3k }}": 'template: :1: bad number syntax: "3k"',
    "{{ break }}": "template: :1: {{break}} outside {{range}}",
    "{{ $a, $b := .X }}": "template: :1: too many declarations in command",
    "{{ range $a, 1 := .X }}{{ end }}": "template: :1: range can only initialize variables",
    "{{ true.A }}": 'template: :1: unexpected . after term "true"',
    '{{ define "a" }}': "template: :1: unexpected EOF",
    "{{ define a }}{{ end }}": 'template: :1: unexpected "a" in define clause',
    "{{ template .X }}": 'template: :1: unexpected ".X" in template clause',
    "{{ .X := 1 }}": 'template: :1: unexpected ":=" in operand',
    "{{ else if .X }}": "template: :1: unexpected {{else}}",
    "{{ if .X }}{{ else with .Y }}{{ end }}": "template: :1: unexpected <with> in else",
    "{{ end .X }}": 'template: :1: unexpected ".X" in end',
    "{{ : }}": "template: :1: expected :=",
    '{{ "\\q" }}': "template: :1: invalid syntax",
}


@pytest.mark.parametrize(("source", "text"), ERRORS.items(), ids=ERRORS)
def test_errors_are_gos(source: str, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template.parse(source)
    assert str(caught.value) == text


TRIMMED = {
    "a {{- 1 -}} b": "a1b",
    "a {{ 1 }} b": "a 1 b",
    "a \n\t{{- /* note */ -}}\n b": "ab",
    "a {{/* note */}} b": "a  b",
    "{{- 1}}\n": "1\n",
    "a {{-1}}": "a -1",
    "{{1 -}}\n\n": "1",
    "{{ `}}` }}": "}}",
    '{{ "}}" }}': "}}",
    "}} {": "}} {",
    "{{ 1\n}}": "1",
    "{{- if true -}} x {{- end -}} ": "x",
}


@pytest.mark.parametrize(("source", "text"), TRIMMED.items(), ids=TRIMMED)
def test_trimming(source: str, text: str) -> None:
    assert Template.parse(source).render({}) == text


CONSTANTS = {
    '{{ "a\\n\\t\\"\\\\\\x41\\101\\u00e9" }}': 'a\n\t"\\AA\u00e9',
    "{{ `a\\n` }}": "a\\n",
    "{{ 'a' }}": "97",
    "{{ '\\n' }}": "10",
    "{{ 0x1f }} {{ 0b11 }} {{ 0o17 }} {{ 017 }} {{ 1_000 }}": "31 3 15 15 1000",
    "{{ 1.50 }} {{ -2 }} {{ +3 }} {{ 1e3 }} {{ .5 }} {{ 1048576.0 }}": "1.5 -2 3 1000 0.5 1.048576e+06",
    "{{ 1e21 }} {{ 1e20 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1.5e-7 }}": "1e+21 1e+20 0.0001 1e-05 1.5e-07",
    "{{ true }} {{ false }}": "true false",
}


@pytest.mark.parametrize(("source", "text"), CONSTANTS.items(), ids=CONSTANTS)
def test_constants(source: str, text: str) -> None:
    assert Template.parse(source).render({}) == text


def test_depth_is_bounded() -> None:
    for source in ("{{ if 1 }}" * 200 + "{{ end }}" * 200, "{{ " + "(" * 200 + "1" + ")" * 200 + " }}"):
        with pytest.raises(TemplateError, match="nested too deeply"):
            Template.parse(source)
    chain = "{{ if .A }}a" + "{{ else if .B }}b" * 200 + "{{ end }}"
    with pytest.raises(TemplateError, match="nested too deeply"):
        Template.parse(chain)


def test_source_is_bounded() -> None:
    with pytest.raises(TemplateError, match="over 1048576"):
        Template.parse("x" * (2**20 + 1))


PIECES = st.sampled_from(
    [
        *("{{", "}}", "{{- ", " -}}", "if", "range", "end", "else", "with", "define", "template", "break", "/*", "*/"),
        *('"a"', "`", "'", "(", ")", "|", ",", ":=", "=", ".", ".A", "$", "$x", "$i, $m := .B", " ", "\n", "é"),
        *("eq", "and", "1", "-", "nil"),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=40))
def test_nothing_but_template_errors(source: str) -> None:
    try:
        template = Template.parse(source)
        template.variables(), template.thinking_tags(), template.tool_marker()
        template.render({"A": "x", "B": [1, 2]})
    except TemplateError as error:
        assert str(error).startswith("template: :")  # noqa: PT017
