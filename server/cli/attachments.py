"""Images and sounds named in a prompt: finds their paths, reads them, and takes the paths out of the text."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from server.cli.errors import CliError

# A path has a slash at its beginning or after a dot; blanks in it are escaped, as terminals write dropped files.
PATH = re.compile(r"['\"]?((?:~|\.{1,2})?/(?:\\.|[^\s'\"\\])+?\.(jpe?g|png|webp|wav))\b['\"]?", re.IGNORECASE)
MAX_BYTES = 100 * 1000 * 1000


def extract(prompt: str) -> tuple[str, list[str], list[str]]:
    """The prompt without the files that exist, their bytes in base64, and a line to print for each."""
    images: list[str] = []
    lines: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name = re.sub(r"\\(.)", r"\1", match[1])
        path = Path(name).expanduser()
        if not path.is_file():
            return match[0]
        images.append(read(path))
        lines.append(f"Added {'audio' if match[2].lower() == 'wav' else 'image'} '{name}'")
        return ""

    return PATH.sub(replace, prompt).strip() if prompt else prompt, images, lines


def read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CliError(f"{path} is larger than {MAX_BYTES // 1000**2} MB")
        return base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
