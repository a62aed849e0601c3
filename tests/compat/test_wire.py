"""What clients rely on without saying so, byte by byte, with curl and plain requests against the real server.

Each test names the client that would break.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from parrot import TEXT

HI = [{"role": "user", "content": "hi"}]
METRICS = {
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "x", "parameters": {"type": "object"}}}
    for name in ("get_weather", "get_time")
]


class Wire:
    """One connection per request, no client's manners."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = urllib.parse.urlsplit(url).netloc

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        return json.loads(self.ask("GET", path)[2])

    def lines(self, path: str, body: Any) -> list[dict[str, Any]]:
        status, _, data = self.ask("POST", path, body)
        assert status == 200, data
        return [json.loads(line) for line in data.decode().splitlines()]

    def one(self, path: str, body: Any) -> Any:
        return self.lines(path, body | {"stream": False})[0]

    def running(self) -> int:
        return sum(model["running"] for model in self.get("/api/ps")["models"])


@pytest.fixture
def wire(url: str) -> Wire:
    return Wire(url)


@pytest.fixture
def endless(wire: Wire) -> Iterator[str]:
    """The built-in model with its end token forbidden."""
    end = wire.one("/api/show", {"model": "guide"})["model_info"]["tokenizer.ggml.eos_token_id"]
    parameters = {"logit_bias": {str(end): -100}, "temperature": 1, "num_predict": -1, "seed": 4}
    wire.one("/api/create", {"model": "endless", "from": "guide", "parameters": parameters})
    yield "endless"
    wire.ask("DELETE", "/api/delete", {"model": "endless"})


def curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/v1/chat/completions"])
def test_lines_split_by_any_splitter_are_objects(wire: Wire, path: str) -> None:
    """httpx's iter_lines (ollama-python, LangChain, LlamaIndex) splits at U+2028, U+2029 and U+0085 too."""
    ask = {"prompt": "x<|say|>", "raw": True} if path == "/api/generate" else {"messages": HI, "stream": True}
    status, _, data = wire.ask("POST", path, {"model": "parrot"} | ask)
    assert status == 200
    assert not re.search("[\u2028\u2029\u0085\r]", data.decode())
    if path == "/v1/chat/completions":
        events = data.decode().removesuffix("\n\n").split("\n\n")
        assert events.pop() == "data: [DONE]"
        found = [json.loads(event.removeprefix("data: ")) for event in events]
        assert "".join(event["choices"][0]["delta"].get("content", "") for event in found) == TEXT
        return
    assert data.endswith(b"}\n")
    lines = data.decode().removesuffix("\n").split("\n")
    texts = [json.loads(line) for line in lines]
    assert "".join(line["message"]["content"] if "message" in line else line["response"] for line in texts) == TEXT


@pytest.mark.parametrize(
    ("path", "ask", "key"),
    [
        ("/api/chat", {"messages": HI}, "message"),
        ("/api/chat", {"messages": HI, "tools": TOOLS}, "message"),
        ("/api/generate", {"prompt": "hi"}, "response"),
    ],
)
def test_every_line_is_whole(wire: Wire, path: str, ask: dict[str, Any], key: str) -> None:
    """litellm reads these keys in every line, npm stops at the first done and any `error`, LangChain adds metrics."""
    lines = wire.lines(path, {"model": "parrot"} | ask)
    assert len(lines) > 2
    for line in lines:
        assert {"model", "created_at", "done", key} <= set(line)
        assert "error" not in line
        assert key == "response" or (line[key]["role"], type(line[key]["content"])) == ("assistant", str)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert not any(METRICS & set(line) for line in lines[:-1])
    assert set(lines[-1]) >= METRICS


def test_tool_calls_are_whole_and_numbered(wire: Wire) -> None:
    """Open WebUI merges calls without an index, and all clients want arguments as one object."""
    for lines in (
        wire.lines("/api/chat", {"model": "parrot", "messages": HI, "tools": TOOLS}),
        [wire.one("/api/chat", {"model": "parrot", "messages": HI, "tools": TOOLS})],
    ):
        calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
        assert [(c["function"]["index"], c["function"]["name"]) for c in calls] == [(0, "get_weather"), (1, "get_time")]
        assert calls[0]["function"]["arguments"] == {"city": "Madrid", "days": 3}
        assert len({call["id"] for call in calls}) == 2


def test_a_tools_result_finds_its_call_in_every_spelling(wire: Wire) -> None:
    """ollama-python sends `tool_name`, Open WebUI `tool_call_id`, LangChain neither."""
    calls = [
        {"id": f"id{i}", "function": {"index": i, "name": name, "arguments": {}}}
        for i, name in enumerate(("get_weather", "get_time"))
    ]
    spellings: list[list[dict[str, str]]] = [
        [{"tool_name": "get_weather"}, {"tool_name": "get_time"}],
        [{"tool_call_id": "id0"}, {"tool_call_id": "id1"}],
        [{}, {}],
    ]
    rendered = set()
    for spelling in spellings:
        results = [{"role": "tool", "content": f"result {i}"} | ids for i, ids in enumerate(spelling)]
        talk = [*HI, {"role": "assistant", "content": "", "tool_calls": calls}, *results]
        asked = {"model": "parrot", "messages": talk, "tools": TOOLS, "_debug_render_only": True}
        rendered.add(wire.one("/api/chat", asked)["_debug_info"]["rendered_template"])
    assert len(rendered) == 1, rendered
    assert "tool get_weather=result 0" in rendered.pop()


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api/version"])
def test_lists_are_json(wire: Wire, path: str) -> None:
    """Open WebUI shows no models when the type is another."""
    status, kind, _ = wire.ask("GET", path, headers={"Content-Type": "application/json"})
    assert (status, kind) == (200, "application/json; charset=utf-8")
    version = wire.get("/api/version")["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version), "Open WebUI and VS Code read it as numbers"
    assert [int(part) for part in version.split(".")] >= [0, 6, 4]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/show"])
def test_errors_before_the_first_byte(wire: Wire, path: str) -> None:
    """Whether or not a stream was asked for: Open WebUI drops errors within a stream."""
    for stream in (True, False):
        asked = {"model": "nobody", "stream": stream, "prompt": "x", "input": "x", "messages": HI}
        status, kind, data = wire.ask("POST", path, asked)
        assert (status, kind.split(";")[0]) == (404, "application/json")
        assert list(json.loads(data)) == ["error"]
        assert "nobody" in json.loads(data)["error"]


def test_any_content_type_and_none(url: str, wire: Wire) -> None:
    """curl says it is a form; litellm says nothing."""
    body = json.dumps({"model": "parrot", "messages": HI, "stream": False})
    assert json.loads(curl(f"{url}/api/chat", "-d", body))["message"]["content"] == TEXT
    assert json.loads(curl(f"{url}/api/chat", "-H", "Content-Type:", "-d", body))["message"]["content"] == TEXT
    assert wire.ask("POST", "/api/show", {"name": "parrot"})[0] == 200, "npm says name"


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
def test_head(url: str, path: str) -> None:
    head = curl("-I", f"{url}{path}")
    assert head.startswith("HTTP/1.1 200 OK")
    assert re.search(r"(?i)^content-length: [1-9]", head, re.MULTILINE)
    assert curl(f"{url}/") == "Ollama is running"


@pytest.mark.parametrize("alive", [0, 0.0, -1.0, 120.0, "10m", "-1s", "0", None])
def test_keep_alive_in_every_spelling(wire: Wire, alive: Any) -> None:
    found = wire.one("/api/chat", {"model": "parrot", "messages": HI, "keep_alive": alive})
    assert found["message"]["content"] == TEXT


def test_nulls_and_strangers(wire: Wire) -> None:
    """LangChain sends every option, most of them null; ollama-python an empty list of tools; litellm of images."""
    options = {"mirostat": None, "num_ctx": None, "temperature": None, "stop": None, "tfs_z": 1}
    messages: Any = [
        {"role": "user", "content": "hi", "images": [], "tool_calls": None, "thinking": None, "strange": 1}
    ]
    asked = {"model": "parrot", "messages": messages, "tools": [], "format": None, "options": options, "think": None}
    assert wire.one("/api/chat", asked | {"strange": {}})["message"]["content"] == TEXT
    assert wire.one("/api/embed", {"model": "guide", "input": ["a"], "options": options, "dimensions": None})


def test_a_window_larger_than_the_model_is_cut_to_it(wire: Wire) -> None:
    """LlamaIndex sends what show says, others send anything."""
    found = wire.one("/api/generate", {"model": "parrot", "prompt": "hi", "options": {"num_ctx": 10_000_000}})
    assert found["response"] == TEXT
    entry = next(model for model in wire.get("/api/ps")["models"] if model["name"] == "parrot:latest")
    assert entry["context_length"] == 2048


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_ends_the_answer_and_lists_never_wait(wire: Wire, endless: str, stream: bool) -> None:
    """No client has another way to cancel; Open WebUI gives lists ten seconds."""
    connection = http.client.HTTPConnection(wire.address, timeout=60)
    body = {"model": endless, "prompt": "hi", "raw": True, "stream": stream}
    connection.request("POST", "/api/generate", json.dumps(body))
    deadline = time.monotonic() + 20
    while not wire.running() and time.monotonic() < deadline:
        time.sleep(0.01)
    asked = time.monotonic()
    assert wire.get("/api/tags")["models"]
    assert wire.running()
    assert time.monotonic() - asked < 2
    connection.close()
    left = time.monotonic()
    while wire.running():
        assert time.monotonic() - left < 2
        time.sleep(0.02)
