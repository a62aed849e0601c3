"""What a chat or a completion becomes as text, for both kinds of chat template.

``choose`` and ``capabilities`` only read templates; everything else runs them and belongs into a model's own process.
Messages are plain mappings (``conversation``). Errors are ``TemplateError``.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from modelfiles import render_go, render_jinja
from modelfiles.conversation import IMAGE_TAG, complete
from modelfiles.errors import TemplateError
from modelfiles.jinja import ChatTemplate

Kind = Literal["go", "jinja"]
Think = bool | str | None

BARE = "{{ .Prompt }}"  # what a model without any template gets
GO_RESULTS = re.compile(r'eq\s+\$?[\w.]*\.Role\s+"tool"|tool_response|TOOL_RESULTS')
JINJA_RESULTS = re.compile(r"""['"](?:tool|ipython|tool_response|observation)['"]|tool_response|TOOL_RESULTS""")


# -- which template, and what it is able to ---------------------------------------------------------------


def capabilities(go: str | None, jinja: str | None, prefer_go: bool | None = None) -> set[str]:
    """``tools``, ``insert`` and ``thinking``, as far as the template in use has them."""
    kind = choose(go, jinja, prefer_go)
    if kind == "go" and go is not None:
        return _go_capabilities(go)
    return _jinja_capabilities(jinja) if kind == "jinja" and jinja is not None else set()


def choose(go: str | None, jinja: str | None, prefer_go: bool | None = None) -> Kind | None:
    """The TEMPLATE layer, unless the model's own Jinja does more; ``prefer_go`` decides where it is given."""
    if go is None or jinja is None:
        return "go" if go is not None else "jinja" if jinja is not None else None
    if prefer_go is not None:
        return "go" if prefer_go else "jinja"
    return "jinja" if _jinja_is_better(go, jinja) else "go"


def _jinja_is_better(go: str, jinja: str) -> bool:
    go_able, jinja_able = _go_capabilities(go), _jinja_capabilities(jinja)
    go_results = "toolcalls" in render_go.parsed(go).variables() and bool(GO_RESULTS.search(go))
    jinja_results = "tool_calls" in jinja and bool(JINJA_RESULTS.search(jinja))
    if go_able < jinja_able:
        return jinja_results or not go_results
    return go_able == jinja_able and "tools" in go_able and jinja_results and not go_results


def _go_capabilities(source: str) -> set[str]:
    template = render_go.parsed(source)
    names = template.variables()
    found = {able for name, able in (("tools", "tools"), ("suffix", "insert")) if name in names}
    return found | {"thinking"} if template.thinking_tags() else found


def _jinja_capabilities(source: str) -> set[str]:
    found = {"tools"} if "tools" in source or "tool_call" in source else set()
    both = "<think>" in source and "</think>" in source
    splits = "content.split('</think>')" in source and "reasoning_content" not in source
    if both or (splits and "<SPECIAL_12>" not in source):
        found.add("thinking")
    return found


# -- rendering --------------------------------------------------------------------------------------------


def render_chat(
    source: str | None,
    kind: Kind | None,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    think: Think = None,
    bos: str = "",
    eos: str = "",
    image_tag: str = IMAGE_TAG,
    variables: Mapping[str, Any] | None = None,
    now: datetime.datetime | None = None,
) -> str:
    """The prompt of the next answer; an answer already begun (a last message of the assistant) is gone on with.

    ``image_tag`` has ``{}`` for the number of the image. ``variables`` are further names for a Jinja template. ``bos``
    and ``eos`` are the texts of those tokens. ``kind`` None: the model has no template.
    """
    whole = complete(messages, image_tag)
    if source is None or kind is None:
        return render_go.render_chat(BARE, whole, tools, think)
    if think == "max" and all(mark in source for mark in render_jinja.HARMONY):
        think = "high"  # this family has three levels
    if kind == "go":
        return render_go.render_chat(source, whole, tools, think, now.date() if now else None)
    return render_jinja.render_chat(ChatTemplate(source, bos, eos), whole, tools, think, variables=variables, now=now)


def render_completion(
    source: str | None,
    kind: Kind | None,
    prompt: str,
    *,
    suffix: str = "",
    system: str = "",
    history: Sequence[Mapping[str, Any]] = (),
    images: int = 0,
    think: Think = None,
    bos: str = "",
    eos: str = "",
    image_tag: str = IMAGE_TAG,
    now: datetime.datetime | None = None,
) -> str:
    """A chat of one turn behind ``system`` and the model's MESSAGE lines; with ``suffix`` what goes in between."""
    if suffix:
        if kind != "go" or source is None:
            raise TemplateError("this model's template does not support insert")
        return render_go.render_infill(source, prompt, suffix, now.date() if now else None)
    messages: list[Mapping[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages += [*history, {"role": "user", "content": prompt, "images": images}]
    return render_chat(source, kind, messages, think=think, bos=bos, eos=eos, image_tag=image_tag, now=now)


# -- thinking ---------------------------------------------------------------------------------------------


def thinking_tags(source: str, kind: Kind) -> tuple[str, str] | None:
    """What stands around a thought."""
    return render_go.parsed(source).thinking_tags() if kind == "go" else render_jinja.thinking_tags(source)


def ends_in_open_tag(text: str, tags: tuple[str, str] | None) -> bool:
    """The prompt has opened a thought already: the answer begins inside of it."""
    if tags is None:
        return False
    opening, closing = tags
    return text.rfind(opening) > text.rfind(closing) and text.rstrip().endswith(opening)
