"""What the command line says when it fails: one line `Error: …` on stderr and exit status 1."""

from __future__ import annotations


class CliError(Exception):
    """The text is shown as it is; it says what to do next."""


class ServerDown(CliError):
    """Nobody listens at OLLAMA_HOST."""

    def __init__(self, url: str) -> None:
        super().__init__(f"could not connect to llamada server at {url}, run 'llamada serve' to start it")


class APIError(CliError):
    """The server's own error text. ``status`` 200 = it came in the middle of a stream."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
