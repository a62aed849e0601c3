from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeServer

from server.cli.client import Client
from server.cli.lines import Composer, Entry, LineReader
from server.cli.repl import Repl
from server.cli.session import Session
from server.config import Address, Config


class Typed:
    """Lines as if typed; an exception among them is what the keyboard would raise."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self._lines = list(lines)
        self.prompts: list[str] = []
        self.history = True
        self.closed = False

    def read(self, prompt: str) -> str:
        self.prompts.append(prompt)
        line = self._lines.pop(0) if self._lines else EOFError
        if isinstance(line, str):
            return line
        raise line

    def keep_history(self, keep: bool) -> None:
        self.history = keep

    def close(self) -> None:
        self.closed = True


Talk = Callable[..., str]


def answer(content: str, **fields: Any) -> list[dict[str, Any]]:
    message = {"role": "assistant", "content": content} | fields
    return [{"message": message, "done": False}, {"message": {"content": ""}, "done": True, "eval_count": 2}]


@pytest.fixture
def talk(fake: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Talk:
    """Types lines into a conversation; what was printed, without the hint at the beginning."""
    fake.answers["POST /api/generate"] = {"done": True}
    fake.answers["POST /api/chat"] = answer("Hello.")
    fake.answers["POST /api/show"] = {"parameters": "stop    x", "template": "T", "modelfile": "FROM x", "license": ""}

    def run(
        *lines: str | type[BaseException], session: Session | None = None, info: dict[str, Any] | None = None
    ) -> str:
        typed = Typed(*lines)
        repl = Repl(Client(Address.parse(fake.url)), session or Session("m"), Config.load({}), typed)
        repl.run(info or {})
        assert typed.closed
        out = capsys.readouterr().out
        before, hint, after = out.partition("Send a message (/? for help)\n")
        assert hint
        return before + after

    return run


def chats(fake: FakeServer) -> list[Any]:
    return [[(m["role"], m["content"]) for m in body["messages"]] for body in fake.bodies("POST /api/chat")]


def test_every_turn_carries_all_that_was_said(fake: FakeServer, talk: Talk) -> None:
    assert talk("Hi", "And?", "/bye", "never") == "Hello.\n\nHello.\n\n"
    first = [("user", "Hi")]
    assert chats(fake) == [first, [*first, ("assistant", "Hello."), ("user", "And?")]]
    assert fake.bodies("POST /api/generate")[0] == {"model": "m", "options": {}, "stream": False}


def test_lines_between_quotes_are_one_message(fake: FakeServer, talk: Talk) -> None:
    talk('"""one', "", '/two"""', '"""three"""', '/set system """Be', 'brief."""', "ok")
    assert chats(fake)[0] == [("user", "one\n\n/two")]
    assert chats(fake)[1][-1] == ("user", "three")
    assert chats(fake)[2][-2:] == [("system", "Be\nbrief."), ("user", "ok")]


def test_ctrl_c_at_the_prompt_says_how_to_leave(talk: Talk) -> None:
    assert talk('"""half', KeyboardInterrupt, "/bye") == "\nUse Ctrl + d or /bye to exit.\n"
    assert talk(EOFError) == "\n"


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(
    fake: FakeServer, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Client.stream

    def cut(self: Client, path: str, body: dict[str, Any]) -> Any:
        if body["messages"][-1]["content"] != "stop":
            yield from real(self, path, body)
            return
        yield {"message": {"content": "par"}}
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "stream", cut)
    assert talk("stop", "on") == "par\n\nHello.\n\n\n"
    assert chats(fake) == [[("user", "stop"), ("assistant", "par"), ("user", "on")]]


def test_an_error_is_one_line_and_the_turn_never_was(fake: FakeServer, talk: Talk) -> None:
    fake.answers["POST /api/chat"] = (500, {"error": "out of memory"})
    assert talk("Hi", "Hi") == "error: out of memory\nerror: out of memory\n\n"
    assert chats(fake)[1] == [("user", "Hi")]


def test_what_is_set_goes_into_every_request(fake: FakeServer, talk: Talk) -> None:
    session = Session("m", frozenset({"thinking"}))
    printed = talk(
        "/set parameter temperature 0.5",
        '/set parameter stop "a b" c',
        "/set parameter seed x",
        "/set parameter bogus 1",
        "/set format json",
        "/set think high",
        "/set nowordwrap",
        "/set quiet",
        "Hi",
        "/set noformat",
        "/set nothink",
        "Hi",
        session=session,
    )
    assert printed == (
        "Set parameter 'temperature' to '0.5'\n"
        "Set parameter 'stop' to 'a b, c'\n"
        "Couldn't set parameter: invalid int value [x]\n"
        "Couldn't set parameter: unknown parameter 'bogus'\n"
        "Set format to 'json' mode.\n"
        "Set 'think' mode to 'high'.\n"
        "Set 'nowordwrap' mode.\n"
        "Set 'quiet' mode.\n"
        "Hello.\n\n"
        "Disabled format.\n"
        "Set 'nothink' mode.\n"
        "Hello.\n\n\n"
    )
    first, second = fake.bodies("POST /api/chat")
    assert first["options"] == {"temperature": 0.5, "stop": ["a b", "c"]}
    assert (first["format"], first["think"]) == ("json", "high")
    assert ("format" in second, second["think"]) == (False, False)


def test_system_clear_and_save(fake: FakeServer, talk: Talk) -> None:
    fake.answers["POST /api/create"] = {"status": "success"}
    said = [{"role": "user", "content": "before"}]
    printed = talk("/set system Be brief.", "Hi", "/save mine", "/clear", "Ho", info={"messages": said})
    assert printed == (
        ">>> before\nSet system message.\nHello.\n\nCreated new model 'mine'\nCleared session context\nHello.\n\n\n"
    )
    assert chats(fake)[1] == [("system", "Be brief."), ("user", "Ho")]
    created = fake.bodies("POST /api/create")[0]
    assert (created["model"], created["from"], created["system"]) == ("mine", "m", "Be brief.")
    assert [m["content"] for m in created["messages"]] == ["before", "Hi", "Hello."]


def test_load_takes_another_model(fake: FakeServer, talk: Talk) -> None:
    assert talk("/load other", "Hi").startswith("Loading model 'other'\nHello.")
    assert fake.bodies("POST /api/chat")[0]["model"] == "other"
    fake.answers["POST /api/show"] = (404, {"error": "model 'nope' not found"})
    assert talk("/load nope", "/load") == (
        "Loading model 'nope'\nCouldn't find model 'nope'\nUsage:\n  /load <modelname>\n\n"
    )


def test_show_prints_parts(fake: FakeServer, talk: Talk) -> None:
    printed = talk("/set parameter top_k 5", "/show parameters", "/show license", "/show system", "/show modelfile")
    assert "Model defined parameters:\n  stop    x\n\nUser defined parameters:\n  top_k" in printed
    assert "No license was specified for this model.\n" in printed
    assert "No system message was specified for this model.\n" in printed
    assert printed.endswith("FROM x\n\n")


def test_unknown_commands_and_help(talk: Talk) -> None:
    printed = talk("/set foo", "/foo", "/show foo")
    assert (
        printed
        == "".join(f"Unknown command '{name}'. Type /? for help\n" for name in ("/set foo", "/foo", "/show foo")) + "\n"
    )
    for command in ("/?", "/help set", "/? shortcuts", "/set", "/show", "/? show", "/set parameter"):
        assert "Available" in talk(command)


def test_a_saved_model_replays_its_messages(talk: Talk) -> None:
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    assert talk("/bye", info={"messages": said}) == ">>> u\na\n\n"


def test_the_composer_keeps_plain_lines_commands() -> None:
    composer = Composer()
    assert composer.feed("/bye") == Entry("/bye", command=True)
    assert composer.feed('"""/bye"""') == Entry("/bye", command=False)
    assert composer.feed('"""') is None
    assert composer.feed('"""') == Entry("\n", command=False) or not composer.open


def test_history_is_private_to_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data" / "history"
    LineReader(path).close()
    assert path.stat().st_mode & 0o077 == 0
    LineReader(None).close()
