"""From a ``Generation`` to token ids that fit the window, and the parser for what the model will answer.

Chat and completion end in the same place: text by the model's template, tokens, the oldest messages dropped
and the middle cut if need be. ``raw`` prompts see no template.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from modelfiles.conversation import IMAGE_TAG, place_images
from modelfiles.render import ends_in_open_tag
from server.errors import InvalidRequest, Unsupported
from server.types import ChatPrompt, Generation, Message, TextPrompt, Think
from server.worker.chat.deadline import Budget
from server.worker.chat.fit import Rendered, Spelt, cut_middle, drop_oldest
from server.worker.chat.formats import tool_parser
from server.worker.chat.formats.fallback import tool_prompt
from server.worker.chat.formats.harmony import END_OF_THINKING, FINAL, HarmonyParser
from server.worker.chat.formats.row import ToolFormat
from server.worker.chat.formats.rows import BY_NAME, HERMES
from server.worker.chat.formats.schemas import schemas_of
from server.worker.chat.output import AnswerParser, OutputParser
from server.worker.chat.plan import CallPlan
from server.worker.chat.templates import NO_TEMPLATE, ChatTemplate, choose, spell
from server.worker.chat.thinking import ThinkingParser
from server.worker.chat.vocab import Vocab

Tags = tuple[str, str] | None
THINK_TAGS = ("<think>", "</think>")
PARSERS: dict[str, tuple[Tags, ToolFormat]] = {  # a model's PARSER → its thinking tags and tool format
    "qwen3": (THINK_TAGS, HERMES),
    "qwen3-thinking": (THINK_TAGS, HERMES),
    "qwen3-vl-instruct": (None, HERMES),
    "qwen3-vl-thinking": (THINK_TAGS, HERMES),
    "qwen3-coder": (None, BY_NAME["qwen3-coder"]),
    "qwen3.5": (THINK_TAGS, BY_NAME["qwen3-coder"]),
    "nemotron-3-nano": (THINK_TAGS, BY_NAME["qwen3-coder"]),
    "deepseek3.1": (THINK_TAGS, BY_NAME["deepseek-v3.1"]),
    "glm-4.7": (THINK_TAGS, BY_NAME["glm"]),
    "lfm2": (None, BY_NAME["lfm2"]),
    "lfm2-thinking": (THINK_TAGS, BY_NAME["lfm2"]),
    "olmo3": (None, BY_NAME["olmo3"]),
    "olmo3-think": (THINK_TAGS, BY_NAME["olmo3"]),
    "ministral": (None, BY_NAME["devstral"]),
    "functiongemma": (None, BY_NAME["functiongemma"]),
    "harmony": (THINK_TAGS, BY_NAME["gpt-oss"]),
}
PASSTHROUGH = "passthrough"
MAX_TEMPLATES = 16
"""Names that share weights and differ in their TEMPLATE share a worker; each template is read once."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """``truncated``: tokens of the whole prompt that are not in ``tokens``. ``thinking``: the answer begins
    inside an open thinking block. ``calls``: how tools may be called, None where they may not. ``think_end``: the
    text that ends its thinking."""

    tokens: list[int]
    text: str
    truncated: int
    thinking: bool
    parser: AnswerParser
    calls: CallPlan | None = None
    think_end: str = ""


class PromptBuilder:
    """One per loaded model. ``build`` may be called in any thread, one call at a time."""

    def __init__(
        self,
        vocab: Vocab,
        *,
        jinja_template: str,
        go_template: str | None = None,
        prefer_go: bool | None = None,
        parser: str = "",
    ) -> None:
        self._vocab = vocab
        self._bos, self._eos = self._spelling(vocab.bos), self._spelling(vocab.eos)
        self._sources = (go_template, jinja_template, prefer_go)
        self._own: OrderedDict[str | None, ChatTemplate] = OrderedDict()
        self._parser = parser

    def _spelling(self, token: int) -> str:
        return self._vocab.piece(token).decode("utf-8", "replace") if token >= 0 else ""

    def build(self, generation: Generation, window: int) -> Prepared:
        """``InvalidRequest`` where the template, the prompt's length or a token id does not allow it."""
        prompt, limits = generation.prompt, generation.limits
        budget = Budget()
        template = self._template(generation, budget)
        tools = prompt.tools if isinstance(prompt, ChatPrompt) else ()
        tags, row = budget.run(partial(self._format, template, generation.parser or self._parser, bool(tools)))
        think: Think = True if prompt.think is None and tags else prompt.think
        full, fitting = self._render(prompt, template, row, think, budget, window if limits.truncate else None)
        tokens = fitting.tokens
        if not generation.render_only:
            tokens = cut_middle(tokens, window, limits.num_keep, bos=self._vocab.add_bos, shift=limits.shift)
            if not tokens:
                raise InvalidRequest("the prompt is empty")
        inside = bool(think) and _opened(prompt, fitting.text, tags)
        plan = _plan(generation, row, tools, fitting.text)
        parser = _output_parser(tags if think else None, row, plan, inside=inside)
        end = _think_end(tags, row, plan)
        return Prepared(tokens, fitting.text, len(full.tokens) - len(tokens), inside, parser, plan, end)

    def _template(self, generation: Generation, budget: Budget) -> ChatTemplate:
        prompt = generation.prompt
        if prompt.template is not None:
            return budget.run(partial(ChatTemplate, "go", prompt.template))
        if isinstance(prompt, TextPrompt) and prompt.raw and not prompt.think:
            return NO_TEMPLATE  # a broken template breaks no raw prompt; only thinking tags are asked of it
        go, jinja, prefer_go = self._sources
        if generation.template is not None:
            go, prefer_go = generation.template, True
        if go not in self._own:  # read at first use: what is wrong with it is one request's error, not the load's
            self._own[go] = budget.run(partial(choose, go, jinja, prefer_go, bos=self._bos, eos=self._eos))
            if len(self._own) > MAX_TEMPLATES:
                self._own.popitem(last=False)
        return self._own[go]

    def _format(self, template: ChatTemplate, parser: str, tools: bool) -> tuple[Tags, ToolFormat | None]:
        """Thinking tags and tool format; None means that calls are not looked for."""
        if not parser:
            return template.tags, template.row if tools or template.harmony else None
        if parser == PASSTHROUGH:
            return None, None
        try:
            return PARSERS[parser]
        except KeyError:
            raise Unsupported(f'unknown parser "{parser}"') from None

    # -- text and tokens --------------------------------------------------------------------------------

    def _render(
        self,
        prompt: ChatPrompt | TextPrompt,
        template: ChatTemplate,
        row: ToolFormat | None,
        think: Think,
        budget: Budget,
        window: int | None,
    ) -> tuple[Rendered, Rendered]:
        """The whole prompt, and what of it remains when the oldest messages make room (``window`` None = never)."""
        before = ""
        tools: tuple[dict[str, Any], ...] = ()
        if isinstance(prompt, ChatPrompt):
            messages, tools = spell(prompt.messages), prompt.tools
            if tools and row is not None and not budget.run(lambda: template.shows_tools):
                messages = spell([Message("system", tool_prompt(row, tools)), *prompt.messages])
        elif prompt.raw:
            return (self._rendered(_with_tags(prompt)),) * 2
        else:
            before = self._spelled(prompt.context)
            if prompt.suffix:
                text = budget.run(partial(template.insert, _with_tags(prompt), prompt.suffix))
                return (self._rendered(text, before),) * 2
            system = [Message("system", prompt.system)] if prompt.system else []
            messages = spell([*system, *prompt.history, Message("user", prompt.prompt, images=prompt.images)])
            window = window if prompt.template is None else None

        def render(some: Sequence[Spelt]) -> Rendered:
            return self._rendered(budget.run(partial(template.chat, some, tools, think)), before)

        full = render(messages)
        if window is None or len(full.tokens) <= window:
            return full, full
        return full, drop_oldest(messages, full, render, window)

    def _spelled(self, context: Sequence[int]) -> str:
        if any(not 0 <= token < self._vocab.n_vocab for token in context):
            raise InvalidRequest(f"context holds a token id outside 0…{self._vocab.n_vocab - 1}")
        return self._without_bos(self._vocab.detokenize(context, special=True)) if context else ""

    def _rendered(self, text: str, before: str = "") -> Rendered:
        spoken = before + self._without_bos(text)
        tokens = self._vocab.tokenize(spoken, add_special=True, parse_special=True)
        if self._vocab.add_eos and tokens[-1:] == [self._vocab.eos]:
            tokens = tokens[:-1]  # the model is to go on, not to begin anew
        return Rendered(before + text, tokens)

    def _without_bos(self, text: str) -> str:
        """Templates often spell out the first token that the tokenizer adds, too."""
        if not self._vocab.add_bos:
            return text
        for spelling in filter(None, (self._bos, "<bos>")):
            if text.startswith(spelling):
                return text[len(spelling) :]
        return text


def _with_tags(prompt: TextPrompt) -> str:
    return place_images(prompt.prompt, [IMAGE_TAG.format(n) for n in range(len(prompt.images))])


def _opened(prompt: ChatPrompt | TextPrompt, text: str, tags: Tags) -> bool:
    """The answer begins inside a thought: the prompt opened one, or ends with a thought to be gone on with."""
    if tags is None:
        return False
    if ends_in_open_tag(text, tags):
        return True
    last = prompt.messages[-1] if isinstance(prompt, ChatPrompt) and prompt.messages else Message("user")
    begun = last.role == "assistant" and last.thinking and not last.content and not last.tool_calls
    return bool(begun) and text.rfind(tags[0]) > text.rfind(tags[1])


def _plan(
    generation: Generation, row: ToolFormat | None, tools: tuple[dict[str, Any], ...], text: str
) -> CallPlan | None:
    """How the answer may call its tools; ``Unsupported`` where it must and this model has no way to."""
    prompt = generation.prompt
    tools = tuple(tool for tool in tools if schemas_of([tool]))
    if not isinstance(prompt, ChatPrompt) or not tools or prompt.tool_choice.kind == "none":
        return None
    if row is None:
        if prompt.tool_choice.kind == "required":
            raise Unsupported("the model's parser passes everything through: it can be made to call no tool")
        return None
    answer = {"type": "object"} if generation.format == "json" else generation.format
    required = prompt.tool_choice.kind == "required"
    begun = row.marker if row.marker and text.endswith(row.marker) else ""
    return CallPlan(row, tools, prompt.tool_choice, None if required else answer, begun)


def _think_end(tags: Tags, row: ToolFormat | None, plan: CallPlan | None) -> str:
    if row is not None and row.kind == "harmony":
        return END_OF_THINKING + ("" if plan is not None and not plan.lazy else FINAL)
    return f"\n{tags[1]}\n\n" if tags else ""


def _output_parser(tags: Tags, row: ToolFormat | None, plan: CallPlan | None, *, inside: bool) -> AnswerParser:
    if row is not None and row.kind == "harmony":
        return HarmonyParser(schemas_of(plan.tools if plan else ()), calls_only=plan is not None and not plan.lazy)
    calls = tool_parser(plan.row, schemas_of(plan.tools)) if plan else None
    if calls is not None and plan is not None and plan.begun:
        calls.feed(plan.begun)
    thinking = ThinkingParser(*tags, inside=inside, interrupt=calls.marker if calls else "") if tags else None
    return OutputParser(thinking, calls)
