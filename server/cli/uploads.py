"""Local files → blobs of the server: shared or copied straight into its store where that is ours too, else sent."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from server.cli.client import Client
from server.cli.errors import CliError
from server.config import Config
from server.errors import ServerError
from server.store.blobs import Blobs

CHUNK = 1 << 20
Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)`` in bytes."""


class Uploads:
    """A large file is read once where the store is shared, and not copied at all where the file system can
    share its bytes."""

    def __init__(self, client: Client, config: Config, progress: Progress) -> None:
        self._client = client
        self._progress = progress
        self._blobs = Blobs(config.models)
        self._shared = self._shares_store()

    def add(self, path: Path) -> str:
        """The digest under which the server now has the file."""
        try:
            return self._copy(path) if self._shared else self._send(path)
        except OSError as error:
            raise CliError(f"cannot read {path}: {error.strerror}") from error
        except ServerError as error:
            raise CliError(f"{path}: {error.message}") from error

    def _shares_store(self) -> bool:
        """Put a few random bytes into our store and ask the server for them."""
        folder = self._blobs.folder
        if not self._client.address.loopback or not folder.is_dir() or not os.access(folder, os.W_OK):
            return False
        try:
            digest, _ = self._blobs.add_bytes(secrets.token_bytes(32))
        except ServerError:
            return False
        try:
            return self._client.has_blob(str(digest))
        finally:
            self._blobs.delete(digest)

    def _copy(self, path: Path) -> str:
        size = path.stat().st_size
        self._progress(f"copying {path.name}", 0, size)
        digest = self._blobs.add_file(path)
        self._progress(f"copying {path.name}", size, size)
        return str(digest)

    def _send(self, path: Path) -> str:
        size = path.stat().st_size
        digest = self._hash(path, size)
        if not self._client.has_blob(digest):
            for sent in self._client.upload(digest, path):
                self._progress(f"copying file {digest}", sent, size)
        return digest

    def _hash(self, path: Path, size: int) -> str:
        hashed, done = hashlib.sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                hashed.update(chunk)
                done += len(chunk)
                self._progress(f"hashing {path.name}", done, size)
        return f"sha256:{hashed.hexdigest()}"
