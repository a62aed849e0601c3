"""Which format a template speaks, seen by what it writes; and a row for one that nobody knows."""

from __future__ import annotations

import pytest

from modelfiles.tool_probe import shows_tools, written_calls
from server.types import ToolCall
from server.worker.chat.formats.choose import row_of, written_in
from server.worker.chat.formats.fallback import tool_prompt
from server.worker.chat.formats.render import render
from server.worker.chat.formats.row import ToolFormat
from server.worker.chat.formats.rows import BY_NAME, ROWS

TURNS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|{{ m.role }}|>"
    "{{ m.content }}%s<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GO = "{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}<{{ .Role }}>{{ .Content }}%s{{ end }}"
GO_MISTRAL = GO % (
    "{{ if .ToolCalls }}[TOOL_CALLS] [{{ range .ToolCalls }}"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}]{{ end }}'
)
STRANGE = {
    "object": '<<CALL>>{"tool": "{{ c.function.name }}", "input": {{ c.function.arguments | tojson }}}<</CALL>>',
    "json": "@@call@@{{ c.function.name }} => {{ c.function.arguments | tojson }}@@end@@",
    "tags": "<do:{{ c.function.name }}>{% for k, v in c.function.arguments.items() %}"
    "<arg {{ k }}>{{ v }}</arg>{% endfor %}</do>",
}


def template(call: str) -> str:
    return TURNS.replace("%s", "{% for c in m.tool_calls or [] %}" + call + "{% endfor %}")


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        (template('\n<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n'
                  "</tool_call>"), "jinja", "hermes"),
        (template("<tool_call>\n<function={{ c.function.name }}>\n{% for k, v in c.function.arguments.items() %}"
                  "<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}</function>\n</tool_call>"),
         "jinja", "qwen3-coder"),
        (template('{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}'),
         "jinja", "llama3"),
        (GO_MISTRAL, "go", "mistral"),
        ("{{ messages[0].content }}{% if tools %}<|tool_list_start|>{{ tools }}{% endif %}", "jinja", "lfm2"),
        ("<|start|><|channel|><|call|>{{ messages[0].content }}", "jinja", "gpt-oss"),
        ("{{ messages[0].content }}", "jinja", "hermes"),
    ],
)  # fmt: skip
def test_a_template_is_known_by_what_it_writes(source: str, kind: str, name: str) -> None:
    assert row_of(source, kind).name == name  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind != "harmony"], ids=lambda row: row.name)
def test_every_row_is_found_in_its_own_writing(row: ToolFormat) -> None:
    from server.worker.chat.formats.choose import _calls

    count = 2 if row.parallel else 1
    found = written_in(render(row, _calls(count)), count)
    assert found is not None
    assert found.name == row.name or render(found, _calls(count)) == render(row, _calls(count))


@pytest.mark.parametrize("kind", STRANGE)
def test_a_format_that_nobody_knows(kind: str) -> None:
    row = row_of(template(STRANGE[kind]), "jinja")
    assert (row.name, row.kind) == ("derived", kind)


def test_a_marker_of_a_go_template_is_enough() -> None:
    source = "{{ range .Messages }}{{ if .ToolCalls }}[CALL]{{ end }}{{ .Content }}{{ end }}"
    assert row_of(source, "go", "[CALL]").call == ("[CALL]", "[/CALL]")


def test_what_a_template_shows() -> None:
    assert written_calls("{{ messages[0].content }}", "jinja") == ""
    assert shows_tools(template(""), "jinja")
    assert not shows_tools("{{ messages[0].content }}", "jinja")


def test_the_prompt_that_teaches_a_format() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    prompt = tool_prompt(BY_NAME["seed"], [tool])
    assert '{"name": "f", "parameters": {"type": "object"}}' in prompt
    assert render(BY_NAME["seed"], [ToolCall("NAME", {"PARAMETER": "VALUE"})]) in prompt
