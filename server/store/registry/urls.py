"""URLs that a registry sent, made sure of: whatever is no proper URL is an UpstreamError here and nowhere later."""

from __future__ import annotations

import re

from yarl import URL

from server.errors import UpstreamError

CLEAN = re.compile(r"[!-~]*")
MAX_URL = 16 * 1024


def parse_url(text: str, base: URL, what: str) -> URL:
    """``text`` relative to ``base``, byte for byte where it is clean ASCII: a signed URL must stay as it is."""
    try:
        if len(text) > MAX_URL:
            raise ValueError("too long")
        url = base.join(URL(text, encoded=CLEAN.fullmatch(text) is not None))
        if url.absolute and url.port is not None and url.host and url.authority:  # yarl looks at these only when asked
            return url
    except ValueError:
        pass
    raise UpstreamError(f"{what} is no URL", status=500)
