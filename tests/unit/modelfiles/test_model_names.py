"""What a model may be called, and that no name leaves the manifests folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelfiles.errors import InvalidName
from modelfiles.names import ModelName


@pytest.mark.parametrize(
    ("text", "short", "full"),
    [
        ("nano", "nano:latest", "registry.ollama.ai/library/nano:latest"),
        ("llama3.2:1b", "llama3.2:1b", "registry.ollama.ai/library/llama3.2:1b"),
        ("ns/m:v1", "ns/m:v1", "registry.ollama.ai/ns/m:v1"),
        ("hf.co/user/Repo-GGUF:Q4_K_M", "hf.co/user/Repo-GGUF:Q4_K_M", "hf.co/user/Repo-GGUF:Q4_K_M"),
        ("http://localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
        ("registry.ollama.ai/library/x:y", "x:y", "registry.ollama.ai/library/x:y"),
        ("REGISTRY.ollama.ai/Library/x", "x:latest", "REGISTRY.ollama.ai/Library/x:latest"),
        ("_a:_b", "_a:_b", "registry.ollama.ai/library/_a:_b"),
        ("m:local", "m:latest", "registry.ollama.ai/library/m:latest"),
        ("m:7b:Local", "m:7b", "registry.ollama.ai/library/m:7b"),
        ("m:20b:cloud", "m:20b-cloud", "registry.ollama.ai/library/m:20b-cloud"),
    ],
)
def test_accepted(text: str, short: str, full: str) -> None:
    name = ModelName.parse(text)
    assert (name.short(), name.full()) == (short, full)
    assert ModelName.parse(full) == name
    assert ModelName.parse(short).key == name.key


REFUSED = [
    *(
        "",
        " ",
        "..",
        ".",
        "a/..",
        "../a",
        "a/../b",
        "a/b/../c",
        "a/./b",
        "C:\\x",
        "C:/x",
        "c:x\\y",
        "/a",
        "a/",
        "a//b",
        "a/b/c/d",
    ),
    *("a b", "a ", " a", "a.", "a:b.", "a:b ", ".a", "-a", "a:-b", "a:", ":a", "a:b:c", "a/b.c./d", "ns.x/m"),
    *("m@sha256:abc", "m@sha256", "u:p@host/a/b", "http://a/b", "://a/b/c", "http://a/b/c/d"),
    *("é", "a:é", "bücher.example/a/b", "a\x00b", "a:b\x00", "a\nb", "a\n", "a:b\n", "٣", "ａ"),
    *("con", "CON", "nul:latest", "aux.gguf", "a:com1", "lpt9/x", "%2e%2e", "a%2fb", "~", "~/a", "$HOME", "a*", "a?"),
    *("a" * 81, "a:" + "b" * 81, "n" * 81 + "/a", "h" * 256 + "/a/b"),
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidName, match="invalid model name"):
        ModelName.parse(text)


@pytest.mark.parametrize("text", ["m:local:cloud", "m:7b-cloud:local", "m:cloud:local"])
def test_both_sources(text: str) -> None:
    with pytest.raises(InvalidName, match=f'use either :local or :cloud, not both: "{text}"'):
        ModelName.parse(text)


def test_cloud() -> None:
    assert ModelName.parse("gpt-oss:120b-cloud").cloud
    assert ModelName.parse("gpt-oss:CLOUD").cloud
    assert ModelName.parse("gpt-oss:120b:cloud").tag == "120b-cloud"
    assert not ModelName.parse("cloud:latest").cloud


def test_case_makes_no_second_name() -> None:
    assert ModelName.parse("Foo").key == ModelName.parse("foo:LATEST").key
    assert ModelName.parse("Foo").short() == "Foo:latest"


PIECES = st.sampled_from([*"aZ0_-./:\\ \n\0@%~é", "..", "://", ":local", "-cloud", "con", "host:80", "library"])


@given(st.lists(PIECES, min_size=1, max_size=12).map("".join) | st.text(max_size=20))
@example("a/../../b:c")
@example("localhost:5000/a/b:c")
def test_every_accepted_name_is_one_path_inside_manifests(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidName:
        return
    root = Path("/store/manifests")
    path = root.joinpath(*name.parts())
    assert path.resolve().is_relative_to(root)
    assert path.relative_to(root).parts == name.parts()
    assert len(path.relative_to(root).parts) == 4
    assert ModelName(*path.relative_to(root).parts) == name
    assert ModelName.parse(name.full()).key == name.key
    assert ModelName.parse(name.short()).key == name.key
