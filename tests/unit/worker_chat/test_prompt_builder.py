"""From generations to tokens: templates, BOS, truncation, thinking, and templates that misbehave."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from server.errors import InvalidRequest, RunnerError, Unsupported
from server.types import ChatPrompt, Generation, Limits, Message, TextPrompt, ToolCall
from server.worker.chat import prompt
from server.worker.chat.deadline import Budget
from server.worker.chat.fit import TOO_LONG
from server.worker.chat.prompt import Prepared, PromptBuilder

BOS, EOS = 1, 2


@dataclass
class Characters:
    """A vocabulary of characters, with <s> and </s> as special tokens."""

    add_bos: bool = False
    add_eos: bool = False
    bos: int = BOS
    eos: int = EOS
    eog: frozenset[int] = frozenset({EOS})
    n_vocab: int = 0x110000

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        if parse_special:
            text = text.replace("<s>", chr(BOS)).replace("</s>", chr(EOS))
        tokens = [ord(c) for c in text]
        before = [BOS] if add_special and self.add_bos else []
        return before + tokens + ([EOS] if add_special and self.add_eos else [])

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str:
        return b"".join(self.piece(token) for token in tokens).decode()

    def piece(self, token: int) -> bytes:
        return {BOS: b"<s>", EOS: b"</s>"}.get(token, chr(token).encode())


CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|a|>{% endif %}"
)
GO = "{{ range .Messages }}[{{ .Role }}]{{ .Content }}\n{{ end }}[a]"
THINKING = (
    "{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}\n{% endfor %}<|a|>"
    "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
)


def builder(
    jinja: str = CHATML, go: str | None = None, *, vocab: Characters | None = None, **options: Any
) -> PromptBuilder:
    return PromptBuilder(vocab or Characters(), go_template=go, jinja_template=jinja, **options)


def chat(*contents: str, **options: Any) -> Generation:
    """A conversation that ends with the user's words; "S:…" is a system message."""
    messages = []
    for content in contents:
        role = "system" if content.startswith("S:") else "assistant" if content.startswith("A:") else "user"
        messages.append(Message(role, content[2:] if role != "user" else content))
    return Generation(ChatPrompt(tuple(messages), **options))


def limited(generation: Generation, **limits: Any) -> Generation:
    return replace(generation, limits=Limits(**limits))


def spelt(prepared: Prepared) -> str:
    return Characters().detokenize(prepared.tokens)


# -- which template ----------------------------------------------------------------------------------------


def test_a_chat_in_jinja() -> None:
    prepared = builder().build(chat("S:be kind", "hi"), 100)
    assert prepared.text == "<|system|>be kind\n<|user|>hi\n<|a|>"
    assert spelt(prepared) == prepared.text
    assert (prepared.truncated, prepared.thinking) == (0, False)


def test_the_go_template_wins_and_a_requested_one_always() -> None:
    assert builder(go=GO).build(chat("hi"), 100).text == "[user]hi\n[a]"
    own = replace(chat("hi"), prompt=ChatPrompt((Message("user", "hi"),), template="<{{ .Prompt }}>"))
    assert builder(go=GO).build(own, 100).text == "<hi>"


def test_the_choice_can_be_forced() -> None:
    assert builder(go=GO, prefer_go=False).build(chat("hi"), 100).text == "<|user|>hi\n<|a|>"


def test_without_a_template_the_prompt_stands_alone() -> None:
    assert builder("").build(Generation(TextPrompt("hi")), 100).text == "hi"


def test_a_template_that_does_not_parse() -> None:
    bad = Generation(TextPrompt("hi", template="{{ if .X"))
    with pytest.raises(RunnerError, match=r"^template: :1: unclosed action$"):
        builder().build(bad, 100)


def test_a_template_that_refuses() -> None:
    with pytest.raises(InvalidRequest, match=r"^chat template failed: .*no thanks"):
        builder("{{ raise_exception('no thanks') }}").build(chat("hi"), 100)


# -- completions -------------------------------------------------------------------------------------------


def test_a_completion_is_a_chat_of_one_turn() -> None:
    history = (Message("user", "a"), Message("assistant", "b"))
    prompt = TextPrompt("hi", system="S", history=history)
    assert builder().build(Generation(prompt), 100).text == "<|system|>S\n<|user|>a\n<|assistant|>b\n<|user|>hi\n<|a|>"


def test_raw_sees_no_template() -> None:
    assert builder().build(Generation(TextPrompt("hi", raw=True)), 100).text == "hi"


def test_a_broken_template_breaks_no_raw_prompt() -> None:
    broken = builder("{% if %}")
    assert broken.build(Generation(TextPrompt("hi", raw=True)), 100).text == "hi"
    with pytest.raises(InvalidRequest, match=r"^chat template failed: "):
        broken.build(chat("hi"), 100)


def test_a_raw_answer_may_think() -> None:
    parser = builder(THINKING).build(Generation(TextPrompt("hi", raw=True, think=True)), 100).parser
    assert [(c.thinking, c.content) for c in parser.feed("<think>a</think>b")] == [("a", ""), ("", "b")]


def test_context_comes_first() -> None:
    prepared = builder(vocab=Characters(add_bos=True)).build(
        Generation(TextPrompt("hi", context=(BOS, ord("o"), ord("k"), EOS))), 100
    )
    assert prepared.tokens == [BOS, ord("o"), ord("k"), EOS, *map(ord, "<|user|>hi\n<|a|>")]


def test_context_with_impossible_tokens() -> None:
    with pytest.raises(InvalidRequest, match="context"):
        builder().build(Generation(TextPrompt("hi", context=(5, -1))), 100)


def test_suffix_fills_the_middle() -> None:
    go = "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}"
    prompt = TextPrompt("a", suffix="b", system="S", history=(Message("user", "x"),))
    assert builder(go=go).build(Generation(prompt), 100).text == "<PRE>a<SUF>b<MID>"
    for other in (builder(), builder(go=GO)):
        with pytest.raises(Unsupported, match="insert"):
            other.build(Generation(prompt), 100)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        builder().build(Generation(TextPrompt("", raw=True)), 100)


def test_images_are_tags() -> None:
    prompt = ChatPrompt((Message("user", "see", images=(b"x",)), Message("user", "[img]?", images=(b"y",))))
    assert "[img-0]see" in (text := builder().build(Generation(prompt), 100).text)
    assert "[img-1]?" in text
    assert "[img-0]hi" in builder().build(Generation(TextPrompt("hi", images=(b"x",))), 100).text


# -- first and last tokens ---------------------------------------------------------------------------------


def test_one_bos_however_it_is_spelt() -> None:
    vocab = Characters(add_bos=True)
    for jinja in ("{{ bos_token }}hi", "<bos>hi", "hi"):
        assert builder(jinja, vocab=vocab).build(chat("x"), 100).tokens == [BOS, *map(ord, "hi")]
    assert builder("{{ bos_token }}hi").build(chat("x"), 100).tokens == [BOS, *map(ord, "hi")]
    assert builder(vocab=vocab).build(Generation(TextPrompt("<s>a", raw=True)), 9).tokens == [BOS, ord("a")]


def test_no_eos_behind_a_prompt() -> None:
    assert builder("hi", vocab=Characters(add_eos=True)).build(chat("x"), 100).tokens == [*map(ord, "hi")]


# -- too long ----------------------------------------------------------------------------------------------

LONG = ("S:stay", "first", "A:second", "third", "last")


def test_the_oldest_messages_make_room() -> None:
    whole = builder().build(chat(*LONG), 1000)
    prepared = builder().build(chat(*LONG), 60)
    assert prepared.text == "<|system|>stay\n<|user|>third\n<|user|>last\n<|a|>"
    assert prepared.truncated == len(whole.tokens) - len(prepared.tokens) > 0


def test_history_of_a_completion_makes_room() -> None:
    history = (Message("user", "x" * 50), Message("assistant", "y" * 50))
    assert builder().build(Generation(TextPrompt("hi", history=history)), 40).text == "<|user|>hi\n<|a|>"


def test_truncate_false_drops_no_message() -> None:
    prepared = builder().build(limited(chat(*LONG), truncate=False), 60)
    assert "first" in prepared.text
    assert len(prepared.tokens) == 60 - (60 - 4) // 2


@pytest.mark.parametrize(("add_bos", "left", "kept"), [(False, 32, 4), (True, 33, 5)])
def test_a_long_message_loses_its_middle(add_bos: bool, left: int, kept: int) -> None:
    vocab = Characters(add_bos=add_bos)
    whole = builder(vocab=vocab).build(chat("x" * 90), 1000).tokens
    prepared = builder(vocab=vocab).build(chat("x" * 90), 60)
    assert len(prepared.tokens) == left
    assert prepared.tokens == whole[:kept] + whole[-(left - kept) :]
    assert prepared.truncated == len(whole) - left


def test_what_was_dropped_and_what_was_cut_is_counted_together() -> None:
    whole = len(builder().build(chat("a" * 50, "b" * 90), 1000).tokens)
    assert builder().build(chat("a" * 50, "b" * 90), 60).truncated == whole - 32


def test_without_shift_a_long_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequest) as error:
        builder().build(limited(chat("x" * 90), shift=False), 60)
    assert error.value.message == TOO_LONG
    assert builder().build(limited(chat("x" * 90, "y"), shift=False), 60).text == "<|user|>y\n<|a|>"


def test_a_rendering_is_shown_whole() -> None:
    prepared = builder().build(replace(limited(chat("x" * 90), shift=False), render_only=True), 60)
    assert prepared.text == f"<|user|>{'x' * 90}\n<|a|>"


# -- thinking and tools ------------------------------------------------------------------------------------


def test_an_open_tag_at_the_end_means_thinking() -> None:
    prepared = builder(THINKING).build(chat("hi", think=True), 100)
    assert prepared.thinking
    assert not prepared.parser.in_content
    thought, answer = prepared.parser.feed("hm</think>\n\nYes")
    assert (thought.thinking, answer.content) == ("hm", "Yes")


def test_thinking_is_on_where_nobody_said_anything() -> None:
    assert builder(THINKING).build(chat("hi"), 100).thinking


def test_a_thought_already_begun_is_gone_on_with() -> None:
    talk = (Message("user", "hi"), Message("assistant", thinking="So far"))
    prepared = builder(THINKING).build(Generation(ChatPrompt(talk, think=True)), 100)
    assert prepared.text.endswith("<think>\nSo far")
    assert [(c.thinking, c.content) for c in prepared.parser.feed(" so good</think>Yes")] == [
        ("so good", ""), ("", "Yes")]  # fmt: skip


def test_think_false_splits_nothing() -> None:
    prepared = builder(THINKING).build(chat("hi", think=False), 100)
    assert prepared.text.endswith("</think>\n\n")
    assert not prepared.thinking
    assert [c.content for c in prepared.parser.feed("<think>a</think>b")] == ["<think>a</think>b"]


def test_a_go_template_names_its_tags() -> None:
    go = "{{ range .Messages }}{{ .Role }}{{ if .Thinking }}<T>{{ .Thinking }}</T>{{ end }}{{ .Content }}{{ end }}"
    parser = builder(go=go).build(chat("hi", think=True), 100).parser
    assert [(c.thinking, c.content) for c in parser.feed("<T>a</T>b")] == [("a", ""), ("", "b")]


WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'


def test_calls_are_read_only_when_tools_were_given() -> None:
    with_tools = builder(THINKING).build(chat("hi", tools=(WEATHER,), think=False), 1000).parser
    (chunk,) = with_tools.feed(CALL)
    assert [(c.name, c.arguments) for c in chunk.tool_calls] == [("get_weather", {"city": "Paris"})]
    without = builder(THINKING).build(chat("hi", think=False), 1000).parser
    assert [c.content for c in without.feed(CALL)] == [CALL]


def test_a_call_of_an_unknown_tool_is_content() -> None:
    parser = builder(THINKING).build(chat("hi", tools=(WEATHER,), think=False), 1000).parser
    unknown = CALL.replace("get_weather", "get_water")
    assert "".join(c.content for c in [*parser.feed(unknown), *parser.finish()]) == unknown


def test_a_go_template_names_its_marker() -> None:
    calls = "{{ if .ToolCalls }}[CALL]{{ range .ToolCalls }}{{ .Function }}{{ end }}{{ end }}"
    go = f"{{{{ range .Messages }}}}{{{{ .Content }}}}{calls}{{{{ end }}}}"
    parser = builder(go=go).build(chat("hi", tools=(WEATHER,)), 1000).parser
    chunks = [*parser.feed('Yes. [CALL]{"name": "get_weather", "arguments": {"city": "Rome"}}'), *parser.finish()]
    assert chunks[0].content == "Yes. "
    assert chunks[1].tool_calls[0].arguments == {"city": "Rome"}


def test_the_named_parsers() -> None:
    tools = chat("hi", tools=(WEATHER,), think=True)
    assert builder(parser="qwen3").build(tools, 1000).parser.feed(f"<think>a</think>{CALL}")[1].tool_calls
    through = builder(THINKING, parser="passthrough").build(tools, 1000).parser
    assert [c.content for c in through.feed(CALL)] == [CALL]
    with pytest.raises(Unsupported, match=r'^unknown parser "bogus"$'):
        builder(parser="bogus").build(tools, 1000)


def test_tool_results_reach_the_template_by_name() -> None:
    jinja = "{% for m in messages %}{{ m.role }}:{{ m.name or m.tool_name or '' }}:{{ m.content }};{% endfor %}"
    talk = (
        Message("user", "?"),
        Message("assistant", tool_calls=(ToolCall("get_weather", {"city": "Paris"}, "c1"),)),
        Message("tool", "sunny", tool_call_id="c1"),
    )
    text = builder(jinja).build(Generation(ChatPrompt(talk)), 1000).text
    assert text.endswith("tool:get_weather:sunny;")


# -- templates that misbehave ------------------------------------------------------------------------------

BOMBS = {
    "loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a * b %}{% endfor %}{% endfor %}",
    "output": "{% for a in range(9999) %}{% for b in range(999) %}{{ '%9999d' % 1 }}{% endfor %}{% endfor %}",
    "doubling": "{% set n = namespace(x='x') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "repeat": "{{ 'x' * 10 ** 11 }}",
    "format": "{{ '%99999999999d' % 1 }}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "range": "{{ range(10 ** 12) | list }}",
    "center": "{{ 'x' | center(10 ** 11) }}",
    "sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_bomb_is_one_clear_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "Budget", partial(Budget, 0.3))
    begun = time.thread_time()
    with pytest.raises(InvalidRequest, match=r"^chat template failed: "):
        builder(BOMBS[name]).build(chat("hi"), 100)
    assert time.thread_time() - begun < 0.9


def test_a_template_has_two_seconds() -> None:
    begun = time.thread_time()
    with pytest.raises(InvalidRequest, match=r"^chat template failed: time limit$"):
        builder(BOMBS["loop"] + "{# once more #}").build(chat("hi"), 100)
    assert 1.9 < time.thread_time() - begun < 2.6


def test_a_go_template_bomb_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "Budget", partial(Budget, 0.3))
    loop = "{{ range 99999999 }}{{ range 99999999 }}{{ end }}{{ end }}"
    begun = time.thread_time()
    with pytest.raises(InvalidRequest, match=r"time limit|too many steps"):
        builder().build(Generation(TextPrompt("hi", template=loop)), 100)
    assert time.thread_time() - begun < 0.9
