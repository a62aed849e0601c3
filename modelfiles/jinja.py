"""Chat templates in Jinja, rendered in a sandbox.

``ChatTemplate(source).render(messages, tools)`` takes plain data only and works on its own copy of it. Whatever goes
wrong, in the template or in what it is given, is a ``TemplateError``. jinja2 is imported when the first template is.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from modelfiles.errors import TemplateError

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MAX_SOURCE = 2**20
MAX_OUTPUT = 16 * 2**20
PREFIX = "chat template: "
# What running somebody's expressions may raise, besides jinja2's own errors.
BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError, RuntimeError),
    *(TypeError, ValueError),
)


class ChatTemplate:
    """A compiled template with the texts of its model's BOS and EOS tokens."""

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        self.source = source
        self.bos = bos
        self.eos = eos
        self._template = compiled(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        think: bool | str | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
        now: datetime.datetime | None = None,
    ) -> str:
        """``think`` None leaves it to the template; ``variables`` are further names that it may read."""
        from modelfiles.jinja_sandbox import clock

        context: dict[str, Any] = {"bos_token": self.bos, "eos_token": self.eos}
        context |= clock(now or datetime.datetime.now().astimezone())
        context |= plain(variables or {})
        context |= {"messages": plain(messages), "add_generation_prompt": add_generation_prompt}
        # ``tools`` is None, not an empty list: templates ask "is not none".
        context["tools"] = plain(tools) if tools else None
        if think is not None:
            context["enable_thinking"] = context["thinking"] = bool(think)
            if isinstance(think, str):
                context["reasoning_effort"] = think
        return self._run(context)

    def _run(self, context: dict[str, Any]) -> str:
        import jinja2

        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(context):
                size += len(piece)
                if size > MAX_OUTPUT:
                    raise TemplateError(f"{PREFIX}the output is over {MAX_OUTPUT} characters")
                pieces.append(piece)
        except TemplateError:
            raise
        except jinja2.TemplateError as error:
            raise TemplateError(PREFIX + (error.message or type(error).__name__)) from None
        except RecursionError:
            raise TemplateError(f"{PREFIX}nested too deeply") from None
        except BROKEN as error:
            raise TemplateError(f"{PREFIX}{type(error).__name__}: {str(error)[:500]}") from None
        return "".join(pieces)


@lru_cache(maxsize=64)
def compiled(source: str) -> Template:
    import jinja2

    if len(source) > MAX_SOURCE:
        raise TemplateError(f"{PREFIX}the template is over {MAX_SOURCE} characters")
    try:
        return _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{PREFIX}{error.message} (line {error.lineno})") from None
    except RecursionError:
        raise TemplateError(f"{PREFIX}nested too deeply") from None
    except (jinja2.TemplateError, *BROKEN, SyntaxError) as error:
        raise TemplateError(f"{PREFIX}{str(error)[:500]}") from None


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from modelfiles.jinja_sandbox import environment

    return environment()


def plain(value: Any, depth: int = 64) -> Any:
    """A deep copy of plain data; anything else must not reach a template."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if not depth:
        raise TemplateError(f"{PREFIX}the messages are nested too deeply")
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value]
    raise TypeError(f"{type(value).__name__} is no plain data")
