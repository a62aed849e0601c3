"""Starts Open WebUI headless in front of a running server and uses it as a person would: choose, ask, stop, unload.

Needs what `open_webui.sh` installs, Chromium, and `playwright` in the Python that runs this (no browser of its own is
downloaded). The server is the one at OLLAMA_HOST. `--tools` leaves Open WebUI's own tools on, `--picture FILE` keeps
a screenshot of the answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

MODEL = "guide:latest"
ENDLESS = "endless:latest"
START_SECONDS = 300.0
ANSWER_SECONDS = 300.0


def server() -> str:
    host = os.environ.get("OLLAMA_HOST", "http://127.0.0.1:11434")
    return host if "://" in host else f"http://{host}"


def ask(url: str, body: dict[str, Any] | None = None, method: str | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found


def loaded(name: str) -> bool:
    return name in {model["name"] for model in ask(f"{server()}/api/ps")["models"]}


def running() -> int:
    """Generations under way; the title of a chat is one too."""
    return sum(model["running"] for model in ask(f"{server()}/api/ps")["models"])


def wait_for(what: str, found: Any, seconds: float) -> None:
    """Until ``found()`` is true."""
    deadline = time.monotonic() + seconds
    while not found():
        if time.monotonic() > deadline:
            sys.exit(f"no {what} within {seconds:.0f} s")
        time.sleep(0.1)


def healthy(url: str) -> bool:
    try:
        return bool(ask(f"{url}/health").get("status"))
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def open_webui(tools: bool) -> Iterator[str]:
    """A fresh one on a free port, with settings of its own."""
    with socket.socket() as probe, tempfile.TemporaryDirectory() as data:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = os.environ | {"PORT": str(port), "WEBUI_DATA": data, "OLLAMA_HOST": server()}
        if tools:
            environment["DEFAULT_MODEL_PARAMS"] = "{}"
        with (Path(data) / "log").open("wb") as log:
            script = ["bash", str(Path(__file__).with_suffix(".sh"))]
            child = subprocess.Popen(script, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for("Open WebUI", lambda: child.poll() is not None or healthy(url), START_SECONDS)
            if child.poll() is not None:
                sys.exit((Path(data) / "log").read_text(errors="replace")[-3000:])
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            child.wait(30)


def choose(page: Page, model: str) -> list[str]:
    """All models that the page offers; ``model`` is the one in use afterwards."""
    page.locator("#model-selector-model-button").click()
    page.locator(f'[role=option][data-value="{model}"]').wait_for()
    names = [str(option.get_attribute("data-value")) for option in page.locator("[role=option]").all()]
    page.locator(f'[role=option][data-value="{model}"]').click()
    return names


def send(page: Page, text: str) -> None:
    page.locator("#chat-input").click()
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def last_answer(page: Page) -> str:
    answers = page.locator(".chat-assistant")
    return answers.last.inner_text().strip() if answers.count() else ""


def chat(page: Page, text: str) -> str:
    before = page.locator(".chat-assistant").count()
    send(page, text)
    wait_for("answer", lambda: page.locator(".chat-assistant").count() > before and last_answer(page), ANSWER_SECONDS)
    wait_for("end", lambda: not page.get_by_role("button", name="Stop").count(), ANSWER_SECONDS)
    return last_answer(page)


def stop(page: Page) -> tuple[int, int]:
    """A long answer, seen to grow, and stopped; its lengths when stopped and a second later."""
    send(page, "Tell me a very long story.")
    wait_for("text", lambda: len(last_answer(page)) > 40, ANSWER_SECONDS)
    first = len(last_answer(page))
    wait_for("more text", lambda: len(last_answer(page)) > first, ANSWER_SECONDS)
    before = running()
    page.get_by_role("button", name="Stop").click()
    wait_for("ended generation", lambda: running() < before, 5)
    stopped = len(last_answer(page))
    time.sleep(1)
    return stopped, len(last_answer(page))


def eject(page: Page, model: str) -> None:
    """The arrow beside a loaded model in the list."""
    page.locator("#model-selector-model-button").click()
    option = page.locator(f'[role=option][data-value="{model}"]')
    option.hover()
    option.get_by_role("button", name="Eject").click()
    wait_for("unloaded model", lambda: not loaded(model), ANSWER_SECONDS)
    page.keyboard.press("Escape")


def make_endless() -> None:
    """The built-in model with its end token forbidden: an answer that only Stop ends."""
    end = ask(f"{server()}/api/show", {"model": MODEL})["model_info"]["tokenizer.ggml.eos_token_id"]
    parameters = {"logit_bias": {str(end): -100}, "temperature": 1, "num_predict": -1}
    ask(f"{server()}/api/create", {"model": ENDLESS, "from": MODEL, "parameters": parameters, "stream": False})


def use(page: Page, url: str, question: str, picture: Path | None) -> None:
    page.goto(url)
    page.get_by_role("button", name="Okay, Let's Go!").click()
    print("models:", ", ".join(choose(page, MODEL)))
    print("answer:", chat(page, question))
    if picture:
        time.sleep(2)
        page.screenshot(path=picture)
    page.goto(url)
    choose(page, ENDLESS)
    stopped, later = stop(page)
    print("stopped:", "at once" if later == stopped else f"{later - stopped} characters late")
    page.goto(url)
    eject(page, MODEL)
    print("unloaded:", MODEL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", action="store_true")
    parser.add_argument("--ask", default="What is a Modelfile?")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    make_endless()
    try:
        with open_webui(arguments.tools) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1100, "height": 560})
            page.set_default_timeout(60_000)
            use(page, url, arguments.ask, arguments.picture)
            browser.close()
    finally:
        ask(f"{server()}/api/delete", {"model": ENDLESS}, "DELETE")


if __name__ == "__main__":
    main()
