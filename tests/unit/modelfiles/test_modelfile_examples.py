"""The example Modelfiles: each parses, comes back from ``show`` unchanged, and renders what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelfiles.modelfile import Modelfile, format_modelfile, parse
from modelfiles.render import capabilities, render_chat, render_completion

FOLDER = Path(__file__).parents[3] / "modelfiles" / "examples"
NAMES = ["documents", "infill", "instruct", "mario"]


def example(name: str) -> Modelfile:
    return parse((FOLDER / f"{name}.Modelfile").read_bytes())


def test_every_example_is_tested() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{name}.Modelfile" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_shown_and_read_again(name: str) -> None:
    made = example(name)
    assert made.warnings == ()
    shown = format_modelfile(
        name,
        made.sources[0],
        template=made.template,
        system=made.system,
        parameters=made.parameters,
        messages=made.messages,
    )
    assert parse(shown) == made


def test_mario() -> None:
    made = example("mario")
    assert made.sources == ("guide",)
    assert made.parameters == {"temperature": 0.7}
    assert made.messages == (("user", "Who are you?"), ("assistant", "It's-a me, Mario!"))
    chatml = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    history = [{"role": role, "content": content} for role, content in made.messages]
    text = render_completion(chatml, "go", "Where do you live?", system=made.system or "", history=history)
    assert text == (
        "<|im_start|>system\n\nYou are Mario, the plumber of the Mushroom Kingdom. Answer as Mario would, in one or "
        "two sentences.\n<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\nIt's-a me, Mario!"
        "<|im_end|>\n<|im_start|>user\nWhere do you live?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_documents() -> None:
    made = example("documents")
    messages = [{"role": "system", "content": "[1] Tea is hot."}, {"role": "user", "content": "Is tea hot?"}]
    assert render_chat(made.template, "go", messages) == (
        "<|im_start|>system\nAnswer from these documents only. If the answer is not in them, say that you do not "
        "know.\n<documents>\n[1] Tea is hot.\n</documents><|im_end|>\n<|im_start|>user\nIs tea hot?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert made.parameters == {"temperature": 0.0, "num_ctx": 8192, "stop": ["<|im_end|>"]}


def test_infill() -> None:
    made = example("infill")
    assert capabilities(made.template, None) == {"insert"}
    text = render_completion(made.template, "go", "def add(a, b):\n    return ", suffix="\n\nadd(1, 2)")
    assert text == "<|fim_prefix|>def add(a, b):\n    return <|fim_suffix|>\n\nadd(1, 2)<|fim_middle|>"
    assert render_completion(made.template, "go", "def add(") == "def add("


def test_instruct() -> None:
    made = example("instruct")
    system = {"role": "system", "content": made.system}
    turns = [{"role": "user", "content": "Add 1 and 2."}, {"role": "assistant", "content": "3"}]
    assert render_chat(made.template, "go", [system, *turns, {"role": "user", "content": "And 3?"}]) == (
        "Below is an instruction that describes a task. Write a response that completes it.\n\n"
        "### Instruction:\nAdd 1 and 2.\n\n### Response:\n3\n\n### Instruction:\nAnd 3?\n\n### Response:\n"
    )
