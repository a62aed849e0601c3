"""The ed25519 key that this installation signs token requests with: Ollama's own file, so that one account serves both.

``~/.ollama/id_ed25519`` in OpenSSH's format; made, readable by its owner alone, the first time a registry asks for it.
"""

from __future__ import annotations

import base64
import os
import secrets
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.errors import StoreError
from server.store.disk import disk_errors, fsync_folder

MAX_KEY = 64 * 1024


class SigningKey:
    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )  # "ssh-ed25519 AAAA…"
        self.public = public.decode().split()[1]

    def authorization(self, data: bytes) -> str:
        """``<base64 of the public key>:<base64 of the signature>``."""
        return f"{self.public}:{base64.b64encode(self._key.sign(data)).decode()}"


def load(path: Path) -> SigningKey:
    """The key at ``path``, made if it is not there. StoreError. Blocks on the disk."""
    with disk_errors("reading the registry key"):
        if not path.exists():
            _make(path)
        data = path.read_bytes()[:MAX_KEY]
    try:
        key = serialization.load_ssh_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StoreError("the registry key (id_ed25519) cannot be read; move it away to have a new one made") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError("the registry key (id_ed25519) is no ed25519 key; move it away to have a new one made")
    return SigningKey(key)


def _make(path: Path) -> None:
    """Written whole and then linked to its name: whoever comes second takes the first one's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(private)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
            path.with_name(f"{path.name}.pub").write_bytes(public + b"\n")
    finally:
        temporary.unlink()
    fsync_folder(path.parent)
