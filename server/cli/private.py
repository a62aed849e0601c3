"""A server of one's own for `llamada run` when none answers: started on a free port, ended with the command."""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import click

from server.cli.client import Client
from server.cli.errors import CliError, ServerDown
from server.config import Address, Config

START_SECONDS = 60.0
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
    command = [sys.executable, "-P", "-m", "server", "serve", "--host", "127.0.0.1:0", "--until-stdin-closes"]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        try:
            yield wait_until_up(child, log)
        finally:
            end(child)


def wait_until_up(child: subprocess.Popen[bytes], log: IO[bytes]) -> Address:
    """Its first line says where it listens."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], START_SECONDS)
    line = child.stdout.readline().decode().strip() if ready else ""
    if not line:
        log.seek(0)
        said = log.read()[-LOG_TAIL:].decode("utf-8", "replace").strip()
        raise CliError(f"the server did not start:\n{said}")
    return Address.parse(line)


def end(child: subprocess.Popen[bytes]) -> None:
    """By closing its standard input; by force when it does not leave."""
    try:
        child.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
