"""What templates print: control flow, functions, JSON, and the bounds of foreign code."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest

from modelfiles.errors import TemplateError
from modelfiles.gotemplate import Template
from modelfiles.gotemplate_values import JSONArray, JSONObject, Struct

DATA: dict[str, Any] = {
    "S": "text",
    "Empty": "",
    "N": 3,
    "F": 2.0,
    "T": True,
    "Nil": None,
    "L": ["a", "b", "c"],
    "M": {"b": 2, "a": 1},
    "O": JSONObject({"z": 1, "a": {"y": 1, "x": "<&>"}}),
    "P": Struct({"Name": "f", "Type": ["string", "null"]}, {"name": "f", "type": "string"}),
    "Ts": JSONArray([Struct({"Name": "f"}, {"name": "f"})]),
    "Ms": [{"Role": "user", "Content": "hi"}, {"Role": "assistant", "Content": "yo"}],
}

CASES = {
    # control flow
    "{{ if .S }}1{{ else }}2{{ end }}{{ if .Empty }}1{{ else }}2{{ end }}": "12",
    "{{ if .Empty }}1{{ else if .S }}2{{ else }}3{{ end }}": "2",
    "{{ if .Missing }}1{{ end }}{{ with .S }}[{{ . }}]{{ end }}{{ with .Empty }}x{{ else }}y{{ end }}": "[text]y",
    "{{ with .Empty }}x{{ else with .N }}{{ . }}{{ end }}": "3",
    "{{ range .L }}{{ . }},{{ end }}": "a,b,c,",
    "{{ range $i, $x := .L }}{{ $i }}{{ $x }}{{ end }}": "0a1b2c",
    "{{ range $x := .L }}{{ $x }}{{ end }}{{ range .Nil }}x{{ else }}none{{ end }}": "abcnone",
    "{{ range $k, $v := .M }}{{ $k }}={{ $v }};{{ end }}": "a=1;b=2;",
    "{{ range 3 }}{{ . }}{{ end }}{{ range $i, $x := 2 }}{{ $i }}{{ end }}": "01201",
    "{{ range .L }}{{ if eq . `b` }}{{ break }}{{ end }}{{ . }}{{ end }}": "a",
    "{{ range .L }}{{ if eq . `b` }}{{ continue }}{{ end }}{{ . }}{{ end }}": "ac",
    "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 5 }}{{ end }}{{ $x }}": "2",
    "{{ $last := `` }}{{ range .Ms }}{{ $last = .Role }}{{ end }}{{ $last }}": "assistant",
    "{{ range .Ms }}{{ .Role }}/{{ $.S }} {{ end }}": "user/text assistant/text ",
    "{{ range $i, $_ := .Ms }}{{ $last := eq (len (slice $.Ms $i)) 1 }}{{ $last }} {{ end }}": "false true ",
    '{{ define "t" }}<{{ . }}>{{ end }}{{ template "t" .S }}{{ template "t" }}': "<text><<no value>>",
    '{{ block "b" .L }}{{ len . }}{{ end }}': "3",
    "{{ (index .Ms 0).Content }}{{ (index .Ms 1).Role }}": "hiassistant",
    # printing
    "{{ .Nil }}|{{ .Missing }}|{{ print nil }}": "<no value>|<no value>|<nil>",
    "{{ .N }} {{ .F }} {{ .T }} {{ .L }} {{ .M }}": "3 2 true [a b c] map[a:1 b:2]",
    "{{ .O }}": '{"z":1,"a":{"x":"\\u003c\\u0026\\u003e","y":1}}',
    "{{ .P }} {{ .Ts }} {{ json .Ts }} {{ range .Ts }}{{ . }}{{ end }}": '{"name":"f","type":"string"}'
    ' [{"name":"f"}] [{"name":"f"}] {"name":"f"}',
    "{{ json .M }} {{ json .L }} {{ json .S }} {{ json .Nil }}": '{"a":1,"b":2} ["a","b","c"] "text" null',
    "{{ json .F }} {{ json 0.00001 }} {{ json 1e-7 }} {{ json 1e21 }} {{ json 0.1 }}": "2 0.00001 1e-7 1e+21 0.1",
    '{{ json "\\u2028é\\x00\\n" }}': '"\\u2028é\\u0000\\n"',
    # functions
    "{{ eq .S `x` `text` }} {{ ne 1 2 }} {{ eq true 1 }} {{ eq .Nil .Missing }}": "true true false true",
    "{{ lt 1 2 }}{{ le 2 2 }}{{ gt 1.5 1 }}{{ ge `a` `b` }}": "truetruetruefalse",
    "{{ and 1 0 }} {{ and 1 2 }} {{ or 0 `` }} {{ or 0 3 }} {{ not .Empty }} {{ and .Empty .Empty.X }}": "0 2  3 true ",
    "{{ len .L }} {{ len `é` }} {{ len .M }}": "3 2 2",
    "{{ index .L 1 }} {{ index .M `a` }} {{ index .M `zz` }} {{ index .S 0 }}": "b 1 <no value> 116",
    "{{ slice .L 1 }} {{ slice .L 0 1 }} {{ slice .S 1 3 }} {{ slice .L 3 }}": "[b c] [a] ex []",
    "{{ print 1 2 `a` 3 }} {{ println `a` 1 }}": "1 2a3 a 1\n",
    "{{ printf `%s-%d-%v-%q-%x` .S 7 .L `q` `hi` }}": 'text-7-[a b c]-"q"-6869',
    "{{ printf `%5.2f-%05d-%-4s|%%-%+d` 1.5 42 `ab` 3 }}": " 1.50-00042-ab  |%-+3",
    "{{ printf `%d` `x` }} {{ printf `%d` }}": "%!d(string=x) %!d(MISSING)",
    "{{ printf `x` 1 }} {{ printf `%s` 1 }}": "x%!(EXTRA int=1) %!s(int=1)",
    "{{ .S | printf `<%s>` | len }}": "6",
    "{{ html `<a>` }} {{ js `'` }} {{ urlquery `a b&` }}": "&lt;a&gt; \\' a+b%26",
    "{{ currentDate }} {{ yesterdayDate }}": "2024-03-01 2024-02-29",
    "{{ toTypeScriptType .P }} {{ toTypeScriptType .S }}": "string | null any",
}


@pytest.mark.parametrize(("source", "text"), CASES.items(), ids=CASES)
def test_render(source: str, text: str) -> None:
    assert Template.parse(source).render(DATA, today=datetime.date(2024, 3, 1)) == text


FAILURES = {
    "{{ index .L 5 }}": 'template: :1:3: executing "" at <index .L 5>: error calling index: index out of range: 5',
    "\n {{ len .N }}": 'template: :2:4: executing "" at <len .N>: error calling len: len of type int',
    "{{ .Nil.X }}": 'template: :1:3: executing "" at <.Nil.X>: nil pointer evaluating interface {}.X',
    "{{ .S.X }}": "can't evaluate field X",
    "{{ lt 1 `a` }}": "incompatible types for comparison",
    "{{ range .T }}{{ end }}": "range can't iterate over true",
    "{{ eq 1 }}": "wrong number of args for eq: want at least 2 got 1",
    "{{ .S 1 }}": "can't give argument to non-function",
    '{{ template "x" }}': 'template "x" not defined',
    '{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}': "exceeded maximum template depth",
    "{{ slice .L 2 1 }}": "invalid slice index: 2 > 1",
    "{{ nil }}": "nil is not a command",
}


@pytest.mark.parametrize(("source", "text"), FAILURES.items(), ids=FAILURES)
def test_failures(source: str, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template.parse(source).render(DATA)
    assert text in str(caught.value)
    assert str(caught.value).startswith("template: :")


BOMBS = {
    "{{ range 1000000000000 }}{{ end }}": "too many steps",
    "{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}": "too many steps",
    "{{ range 2000000 }}" + "x" * 100 + "{{ end }}": "the output is over|too many steps",
    "{{ $x := `" + "a" * 1000 + "` }}{{ range 40 }}{{ $x = printf `%s%s` $x $x }}{{ end }}": "the text is over",
    "{{ $x := `" + "a" * 10**6 + "` }}{{ range 40 }}{{ $x }}{{ end }}": "the output is over",
}


@pytest.mark.parametrize(("source", "reason"), BOMBS.items(), ids=range(len(BOMBS)))
def test_bombs(source: str, reason: str) -> None:
    start = time.process_time()
    with pytest.raises(TemplateError, match=reason):
        Template.parse(source).render(DATA)
    assert time.process_time() - start < 10


def test_width_of_printf_is_bounded() -> None:
    assert Template.parse("{{ printf `%999999999d` 1 }}").render({}) == "%!(BADWIDTH)%!(EXTRA int=1)"


QWEN = """{{- if or .System .Tools }}<|im_start|>system
{{ .System }}{{ if .Tools }}
# Tools{{ range .Tools }}
{"type": "function", "function": {{ .Function }}}{{ end }}{{ end }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ if (and $.IsThinkSet (and .Thinking (or $last true))) -}}
<think>{{ .Thinking }}</think>
{{ end -}}
{{ if .Content }}{{ .Content }}{{ end }}
{{- if .ToolCalls }}
{{- range .ToolCalls }}
<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>
{{- end }}
{{- end }}{{ if not $last }}<|im_end|>
{{ end }}
{{- else if eq .Role "tool" }}<|im_start|>user
<tool_response>
{{ .Content }}
</tool_response><|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}"""


def test_queries() -> None:
    template = Template.parse(QWEN)
    names = {
        "system",
        "tools",
        "messages",
        "role",
        "content",
        "thinking",
        "toolcalls",
        "$last",
        "isthinkset",
        "function",
    }
    assert names <= template.variables()
    assert template.thinking_tags() == ("<think>", "</think>")
    assert template.tool_marker() == "<tool_call>"


TAGS: dict[str, tuple[str, str] | None] = {
    "{{ range .Messages }}<t>{{ .Thinking }}</t>{{ end }}": ("<t>", "</t>"),
    "{{ range $i, $m := $.Messages }}{{ if .Thinking }} <t>\n{{ .Thinking }}\n</t> {{ end }}x{{ end }}": (
        "<t>",
        "</t>",
    ),
    "{{ range .Messages }}{{ .Role }}{{ if .Thinking }}{{ .Thinking }}{{ end }}{{ end }}": None,
    "{{ range .Messages }}a{{ if .Thinking }}b{{ end }}c{{ end }}": None,
    "<t>{{ .Thinking }}</t>": None,
    "{{ range .Other }}<t>{{ .Thinking }}</t>{{ end }}": None,
    "{{ .Prompt }}": None,
}


@pytest.mark.parametrize(("source", "tags"), TAGS.items(), ids=TAGS)
def test_thinking_tags(source: str, tags: tuple[str, str] | None) -> None:
    assert Template.parse(source).thinking_tags() == tags


MARKERS = {
    "{{ if .ToolCalls }}[TOOL_CALLS] [{{ range .ToolCalls }}{}{{ end }}]{{ end }}": "[TOOL_CALLS] [",
    '{{ if .ToolCalls }}{{ range .ToolCalls }}{"name": 1}{{ end }}{{ end }}': "{",
    '{{ range .Messages }}{{ if .ToolCalls }} \n{{ range .ToolCalls }}<call>{"n"}{{ end }}{{ end }}{{ end }}': "<call>",
    "{{ range .ToolCalls }}<tool_call>{}{{ end }}": "<tool_call>",
    "{{ range .ToolCalls }}a{{ end }}{{ if .ToolCalls }}b{{ end }}": "b",
    "{{ if .ToolCalls }}{{ .Content }}{{ end }}": "{",
    "{{ .Messages }}": None,
}


@pytest.mark.parametrize(("source", "marker"), MARKERS.items(), ids=MARKERS)
def test_tool_marker(source: str, marker: str | None) -> None:
    assert Template.parse(source).tool_marker() == marker


def test_up_to() -> None:
    template = Template.parse("{{ if .System }}{{ .System }}|{{ end }}{{ .Prompt }}[{{ .Response }}]END")
    data = {"System": "s", "Prompt": "p", "Response": "r"}
    assert template.render(data) == "s|p[r]END"
    assert template.render(data, up_to="Response") == "s|p[r"
    nested = Template.parse("{{ if .Prompt }}a{{ .Response }}b{{ else }}c{{ end }}d")
    assert nested.render(data, up_to="Response") == "ar"
    assert nested.render({}, up_to="Response") == ""
