"""From messages to text with both kinds of template: merging, old templates, thinking, tools, answers begun."""

from __future__ import annotations

from typing import Any

import pytest

from modelfiles.errors import TemplateError
from modelfiles.render import (
    Think,
    capabilities,
    choose,
    ends_in_open_tag,
    render_chat,
    render_completion,
    thinking_tags,
)

S, U, A, U2 = (
    {"role": role, "content": text}
    for role, text in (("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V"))
)
CHATML = "{{- range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}<assistant>"
MESSAGES = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
JINJA = MESSAGES + "{% if add_generation_prompt %}<assistant>{% endif %}"
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "<d>",
        "parameters": {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": ["integer", "null"]}}},
    },
}


# -- Go ---------------------------------------------------------------------------------------------------


def test_neighbours_are_merged() -> None:
    result = {"role": "tool", "content": "R"}
    text = render_chat(CHATML, "go", [S, S, U, U2, A, A, result, result])
    assert text == "<system>S\n\nS<user>U\n\nV<assistant>A\n\nA<tool>R<tool>R<assistant>"


def test_merging_keeps_calls_and_thoughts() -> None:
    first = {"role": "assistant", "thinking": "t", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    source = "{{ range .Messages }}{{ .Thinking }}{{ range .ToolCalls }}{{ .Function.Name }}{{ end }}{{ end }}"
    second = {"role": "assistant", "tool_calls": [{"function": {"name": "g", "arguments": {}}}]}
    assert render_chat(source, "go", [first, second]) == "tfg"


def test_system_is_joined_and_stays() -> None:
    source = "[{{ .System }}]{{ range .Messages }}({{ .Role }}){{ end }}"
    assert render_chat(source, "go", [S, U, S]) == "[S\n\nS](system)(user)(system)"


def test_developer() -> None:
    """Where the role is printed it stays; a template that only knows the others gets it as system."""
    developer = {"role": "developer", "content": "D"}
    assert render_chat(CHATML, "go", [developer, U]) == "<developer>D<user>U<assistant>"
    source = '{{ range .Messages }}{{ if eq .Role "system" }}[{{ .Content }}]{{ else }}{{ .Content }}{{ end }}{{ end }}'
    assert render_chat(source, "go", [developer, U]) == "[D]U"
    assert render_chat("{{ .System }}|{{ .Prompt }}", "go", [developer, U]) == "D|U"


LEGACY = "{{ if .System }}[S]{{ .System }}[/S]{{ end }}{{ if .Prompt }}[U]{{ .Prompt }}[/U]{{ end }}{{ .Response }}</s>"


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([U], "[U]U[/U]"),
        ([S, U], "[S]S[/S][U]U[/U]"),
        ([U, A, U2], "[U]U[/U]A</s>[U]V[/U]"),
        ([S, U, A, U2], "[S]S[/S][U]U[/U]A</s>[U]V[/U]"),
        ([U, A, S, U2], "[U]U[/U]A</s>[S]S[/S][U]V[/U]"),
        ([U, S, U2], "[U]U[/U]</s>[S]S[/S][U]V[/U]"),
        ([U, A], "[U]U[/U]A"),
        ([S], "[S]S[/S]"),
        ([U, {"role": "tool", "content": "R"}], "[U]U[/U]"),
        ([], ""),
    ],
)
def test_legacy(messages: list[dict[str, Any]], text: str) -> None:
    assert render_chat(LEGACY, "go", messages) == text


def test_response_is_appended_where_it_is_missing() -> None:
    assert render_chat("{{ .Prompt }}:", "go", [U, A, U2]) == "U:AV:"
    assert render_chat(None, None, [S, U, A, U2]) == "UAV"


@pytest.mark.parametrize(
    ("think", "text"),
    [(None, "false  false"), (False, "false  true"), (True, "true medium true"), ("high", "true high true")],
)
def test_think(think: Think, text: str) -> None:
    assert (
        render_chat("{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}{{ .Messages }}", "go", [], think=think)
        == text + "[]"
    )


def test_harmony_has_three_levels() -> None:
    assert render_chat("<|start|><|channel|>{{ .ThinkLevel }}{{ len .Messages }}", "go", [U], think="max").endswith(
        "high1"
    )
    assert render_chat("<|start|><|channel|>{{ reasoning_effort }}", "jinja", [U], think="max").endswith("high")
    assert render_chat("{{ .ThinkLevel }}{{ len .Messages }}", "go", [U], think="max") == "max1"


def test_tools_in_go() -> None:
    body = (
        '{"name":"f","description":"\\u003cd\\u003e","parameters":{"type":"object","properties":'
        '{"b":{"type":"string"},"a":{"type":["integer","null"]}}}}'
    )
    tool = '{"type":"function","function":' + body + "}"
    assert render_chat("{{ .Tools }}{{ len .Messages }}", "go", [], [TOOL]) == f"[{tool}]0"
    assert render_chat("{{ json .Tools }}{{ len .Messages }}", "go", [], [TOOL]) == f"[{tool}]0"
    loop = "{{ range .Tools }}{{ . }}{{ .Function }}{{ .Function.Parameters.Properties }}{{ end }}{{ len .Messages }}"
    properties = '{"b":{"type":"string"},"a":{"type":["integer","null"]}}'
    assert render_chat(loop, "go", [], [TOOL]) == tool + body + properties + "0"
    typed = (
        "{{ range .Tools }}{{ range $n, $p := .Function.Parameters.Properties }}{{ $n }}:{{ $p.Type }}/"
        "{{ toTypeScriptType $p }} {{ end }}{{ end }}{{ len .Messages }}"
    )
    assert render_chat(typed, "go", [], [TOOL]) == "a:[integer null]/number | null b:string/string 0"
    assert render_chat("{{ if .Tools }}x{{ end }}{{ len .Messages }}", "go", []) == "0"


def test_calls_in_go() -> None:
    call = {"function": {"name": "f", "arguments": {"z": "<", "a": [1.0, {"d": 1, "c": 2}], "n": None}}}
    source = (
        "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Name }}{{ .Function.Arguments }}{{ end }}{{ end }}"
    )
    message = {"role": "assistant", "tool_calls": [call]}
    assert render_chat(source, "go", [message]) == 'f{"z":"\\u003c","a":[1,{"c":2,"d":1}],"n":null}'
    arguments = "{{ range .Messages }}{{ range .ToolCalls }}{{ json .Function.Arguments }}{{ .ID }}{{ end }}{{ end }}"
    assert render_chat(arguments, "go", [message]).startswith('{"z":"\\u003c","a"')
    ranged = (
        "{{ range .Messages }}{{ range .ToolCalls }}"
        "{{ range $k, $v := .Function.Arguments }}{{ $k }}={{ $v }};{{ end }}{{ .Function.Index }}{{ end }}{{ end }}"
    )
    assert render_chat(ranged, "go", [message]) == "a=[1 map[c:2 d:1]];n=<no value>;z=<;0"


def test_completion() -> None:
    assert (
        render_completion(CHATML, "go", "P", system="S", history=[U, A])
        == "<system>S<user>U<assistant>A<user>P<assistant>"
    )
    assert render_completion(JINJA, "jinja", "P", images=2) == "<user>[img-0][img-1]P<assistant>"
    assert render_completion(None, None, "P") == "P"


def test_infill() -> None:
    source = "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}"
    assert render_completion(source, "go", "a", suffix="b", system="S", history=[U]) == "<P>a<S>b<M>"
    assert render_completion(source, "go", "", suffix="b") == "<P><S>b<M>"
    assert render_completion(source, "go", "a") == "a"
    with pytest.raises(TemplateError, match="does not support insert"):
        render_completion(JINJA, "jinja", "a", suffix="b")


# -- Jinja ------------------------------------------------------------------------------------------------

CALLING: dict[str, Any] = {
    "role": "assistant",
    "thinking": "t",
    "tool_calls": [{"function": {"name": "f", "arguments": {"k": "é"}}}],
}
RESULT = {"role": "tool", "content": "R"}


def chat(source: str, *messages: dict[str, Any], tools: tuple[Any, ...] = (), think: Think = None) -> str:
    return render_chat(source, "jinja", messages, tools, think=think)


def test_plain_jinja() -> None:
    assert chat(JINJA, S, U, A, U2, U2) == "<system>S<user>U<assistant>A<user>V<user>V<assistant>"
    assert (
        render_chat("{{ bos_token }}{{ eos_token }}{{ x }}", "jinja", [U], bos="B", eos="E", variables={"x": 1})
        == "BE1"
    )


def test_answer_already_begun() -> None:
    assert chat(JINJA, U, A) == "<user>U<assistant>A"
    source = JINJA + "{# <think> </think> #}"
    assert chat(source, U, {**A, "thinking": "t"}) == "<user>U<assistant><think>\nt\n</think>\n\nA"
    assert chat(source, U, {"role": "assistant", "thinking": "t"}) == "<user>U<assistant><think>\nt"
    opened = source.replace("<assistant>", "<assistant><think>\n")
    assert chat(opened, U, {"role": "assistant", "thinking": "t"}) == "<user>U<assistant><think>\nt"
    assert chat(opened, U, A) == "<user>U<assistant><think>\n\n</think>\n\nA"


def test_system_refused() -> None:
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + JINJA
    assert chat(source, S, S, U) == "<user>S\n\nS\n\nU<assistant>"
    assert chat(source, S) == "<user>S<assistant>"
    assert chat(source, U, A, S, U2) == "<user>U<assistant>A<user>S\n\nV<assistant>"


def test_neighbours_refused() -> None:
    source = (
        "{% for m in messages %}{% if loop.index0 and messages[loop.index0 - 1].role == m.role %}"
        "{{ raise_exception('alternate') }}{% endif %}{% endfor %}" + JINJA
    )
    assert chat(source, U, U2, A, U) == "<user>U\n\nV<assistant>A<user>U<assistant>"


def test_typed_content() -> None:
    parts = "{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}"
    source = MESSAGES.replace("{{ m.content }}", parts)
    assert chat(source, S, U) == "<system>S<user>U"


def test_developer_becomes_system() -> None:
    developer = {"role": "developer", "content": "D"}
    assert chat(JINJA, developer, U) == "<system>D<user>U<assistant>"
    assert chat(JINJA + "{# developer #}", developer, U) == "<developer>D<user>U<assistant>"


CALLS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls %}CALL{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        ("{{ c.function.arguments | tojson }}", '{"k": "é"}'),
        ("{{ c.function.arguments }}", '{"k": "é"}'),
        ("{{ c.function.name + c.function.arguments }}", 'f{"k": "é"}'),
        ("{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}", "k=é"),
        ("{{ c.id }}{{ c.type }}{{ c.function | tojson }}", 'call_0function{"name": "f", "arguments": {"k": "é"}}'),
    ],
)
def test_arguments_as_the_template_wants_them(printed: str, text: str) -> None:
    assert chat(CALLS.replace("CALL", printed), U, CALLING, RESULT) == f"<user>U<assistant>{text}<tool>R"


def test_calls_that_a_template_cannot_say() -> None:
    said = '<tool_call>\n{"name": "f", "arguments": {"k": "é"}}\n</tool_call>'
    assert chat(JINJA, U, CALLING, RESULT) == f"<user>U<assistant>{said}<tool>R<assistant>"


def test_results_that_a_template_cannot_say() -> None:
    source = "{% for m in messages if m.role != 'tool' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    assert chat(source, U, RESULT) == "<user>U<user><tool_response>\nR\n</tool_response>"


def test_calls_need_content_none() -> None:
    source = CALLS.replace(
        "{{ m.content }}",
        "{% if m.tool_calls and m.content is not none %}{{ raise_exception('c') }}{% endif %}{{ m.content or '' }}",
    ).replace("CALL", "{{ c.function.arguments | tojson }}")
    assert chat(source, U, CALLING, RESULT) == '<user>U<assistant>{"k": "é"}<tool>R'


def test_short_ids() -> None:
    source = CALLS.replace(
        "CALL",
        "{% if c.id|length != 9 %}{{ raise_exception('id') }}{% endif %}{{ c.id }}{{ c.function.arguments | tojson }}",
    ).replace("{{ m.content }}", "{{ m.content }}{{ m.tool_call_id }}")
    text = chat(source, U, CALLING, RESULT)
    made = text.removeprefix("<user>U<assistant>")[:9]
    assert text == f'<user>U<assistant>{made}{{"k": "é"}}<tool>R{made}'
    given = {**CALLING, "tool_calls": [{"id": "abc123XYZ", **CALLING["tool_calls"][0]}]}
    assert "abc123XYZ" in chat(source, U, given, RESULT)


def test_result_names() -> None:
    named = "{% if m.role == 'tool' %}{{ m.name }}/{{ m.tool_call_id }}{% endif %}{{ m.content }}"
    source = MESSAGES.replace("{{ m.content }}", named)
    assert chat(source, U, CALLING, RESULT, U2).endswith("f/call_0R<user>V")


def test_thoughts_are_passed() -> None:
    for name in ("reasoning_content", "thinking", "reasoning"):
        source = "{% for m in messages %}{{ m.content }}{{ m.NAME }}{% endfor %}".replace("NAME", name)
        assert chat(source, U, {**A, "thinking": "T"}, U2) == "UATV"


def test_harmony_takes_no_content_beside_a_call() -> None:
    source = (
        "{# <|start|><|channel|> #}{% for m in messages %}"
        "{% if m.content and m.thinking %}{{ raise_exception('both') }}{% endif %}{{ m.content }}{{ m.thinking }}"
        "{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}"
    )
    assert chat(source, U, {**CALLING, "content": "c"}, RESULT) == 'Ut\n\nc{"k": "é"}R'


# -- thinking tags ----------------------------------------------------------------------------------------

TAGS: dict[str, tuple[str, str] | None] = {
    JINJA: None,
    JINJA.replace(
        "{{ m.content }}",
        "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>{% endif %}{{ m.content }}",
    ): (
        "<think>",
        "</think>",
    ),
    JINJA.replace("{{ m.content }}", "[THINK]{{ m.thinking }}[/THINK]{{ m.content }}"): ("[THINK]", "[/THINK]"),
    JINJA.replace("{{ m.content }}", "<seed:think>{{ m.reasoning }}</seed:think>{{ m.content }}"): (
        "<seed:think>",
        "</seed:think>",
    ),
    JINJA.replace("{{ m.content }}", "{{ m.reasoning_content }}{{ m.content }}"): None,
    JINJA + "{# <think> and </think> #}": ("<think>", "</think>"),
    "{{ raise_exception('never') }}": None,
}


@pytest.mark.parametrize(("source", "tags"), TAGS.items(), ids=range(len(TAGS)))
def test_thinking_tags_of_jinja(source: str, tags: tuple[str, str] | None) -> None:
    assert thinking_tags(source, "jinja") == tags


def test_thinking_tags_of_go() -> None:
    assert thinking_tags("{{ range .Messages }}<t>{{ .Thinking }}</t>{{ end }}", "go") == ("<t>", "</t>")


def test_open_tag() -> None:
    tags = ("<think>", "</think>")
    assert ends_in_open_tag("a<think>", tags)
    assert ends_in_open_tag("a<think>\n", tags)
    assert not ends_in_open_tag("a<think>\n\n</think>\n\n", tags)
    assert not ends_in_open_tag("a<think>b", tags)
    assert not ends_in_open_tag("a", tags)
    assert not ends_in_open_tag("a<think>", None)


# -- which template ---------------------------------------------------------------------------------------

GO_TOOLS = "{{ .Tools }}{{ range .Messages }}{{ .ToolCalls }}{{ end }}"
GO_ROUND = GO_TOOLS + '{{ range .Messages }}{{ if eq .Role "tool" }}x{{ end }}{{ end }}'
JINJA_TOOLS = "{{ tools }}{{ messages[0].tool_calls }}"
JINJA_ROUND = JINJA_TOOLS + "{% if messages[0].role == 'tool' %}x{% endif %}"
JINJA_ALL = JINJA_ROUND + "<think></think>"

CHOICES = [
    (None, None, None),
    (CHATML, None, "go"),
    (None, JINJA, "jinja"),
    (CHATML, JINJA, "go"),
    (CHATML, JINJA_TOOLS, "jinja"),
    (GO_TOOLS, JINJA_TOOLS, "go"),
    (GO_TOOLS, JINJA_ROUND, "jinja"),
    (GO_ROUND, JINJA_ROUND, "go"),
    (GO_ROUND, JINJA_ALL, "jinja"),
    (GO_ROUND, JINJA_TOOLS + "<think></think>", "go"),
    ("{{ .Suffix }}{{ .Prompt }}", JINJA_ALL, "go"),
]


@pytest.mark.parametrize(("go", "jinja", "kind"), CHOICES)
def test_choose(go: str | None, jinja: str | None, kind: str | None) -> None:
    assert choose(go, jinja) == kind


def test_choice_can_be_forced() -> None:
    assert choose(CHATML, JINJA_ALL, True) == "go"
    assert choose(GO_ROUND, JINJA, False) == "jinja"
    assert choose(GO_ROUND, None, False) == "go"


def test_capabilities() -> None:
    assert capabilities(None, None) == set()
    assert capabilities(None, JINJA_ALL) == {"tools", "thinking"}
    assert capabilities(GO_ROUND, JINJA) == {"tools"}
    assert capabilities("{{ .Prompt }}{{ .Suffix }}", None) == {"insert"}
    assert capabilities("{{ range .Messages }}<t>{{ .Thinking }}</t>{{ end }}", None) == {"thinking"}
    assert capabilities(None, "{{ m.content.split('</think>')[-1] }}") == {"thinking"}
    assert capabilities(None, "{{ m.content.split('</think>')[-1] }}{{ m.reasoning_content }}") == set()
    with pytest.raises(TemplateError):
        capabilities("{{ if", None)
