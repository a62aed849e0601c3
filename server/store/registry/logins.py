"""Names and passwords for plain OCI registries, as `docker login` and `podman login` keep them. Read, never written."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

from server.errors import StoreError

MAX_BYTES = 4 * 1024 * 1024


def basic(path: Path, host: str) -> str | None:
    """The base64 of ``name:password`` for ``host`` in a ``config.json``; None where there is none. StoreError."""
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError("the logins of docker (config.json) cannot be read") from error
    logins = data.get("auths") if isinstance(data, dict) else None
    for key, login in (logins or {}).items() if isinstance(logins, dict) else ():
        bare = key.split("://", 1)[-1].split("/", 1)[0].lower()
        if bare == host.lower() and isinstance(login, dict) and isinstance(login.get("auth"), str):
            return _checked(login["auth"])
    return None


def _checked(text: str) -> str | None:
    try:
        return text if b":" in base64.b64decode(text, validate=True) else None
    except binascii.Error:
        return None
