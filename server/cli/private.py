"""A server of one's own for `llamada run` when none answers: started on a free port, ended with the command."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO

import click

from server.cli.client import Client
from server.cli.errors import CliError, ServerDown
from server.config import Address, Config

START_SECONDS = 30.0
END_SECONDS = 10.0
LOG_TAIL = 2000
UNSPECIFIED = ("", "0.0.0.0", "::")


@contextmanager
def reachable(config: Config) -> Iterator[Client]:
    """A client of the server at OLLAMA_HOST, or of a private one if none is there and the address is this machine's."""
    client = Client(config.host)
    try:
        client.get("/api/version")
    except ServerDown:
        if not (config.host.loopback or config.host.host in UNSPECIFIED):
            raise
    else:
        yield client
        return
    click.echo(f"No server at {config.host.url}; starting one for this command. (`llamada serve` keeps one.)", err=True)
    with private_server() as address:
        yield Client(address)


@contextmanager
def private_server() -> Iterator[Address]:
    """Lives as long as its standard input, so that it ends even when this process is killed."""
    address = replace(Address(), port=free_port())
    command = [
        sys.executable,
        "-m",
        "server",
        "serve",
        "--host",
        f"{address.host}:{address.port}",
        "--until-stdin-closes",
    ]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_until_up(Client(address), child, log)
            yield address
        finally:
            end(child)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_up(client: Client, child: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not client.alive():
        if child.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            said = log.read()[-LOG_TAIL:].decode("utf-8", "replace").strip()
            raise CliError(f"the server did not start:\n{said}")
        time.sleep(0.03)


def end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
