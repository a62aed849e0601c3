"""Model names: ``[scheme://][host[:port]/][namespace/]model[:tag]``.

Every name that ``parse`` accepts maps to one path below ``manifests/`` and back; whatever could leave that folder, or
mean two things on some file system, is ``InvalidName``. Knows nothing of what is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelfiles.errors import InvalidName

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"

# A part is also a file name: 255 bytes is what file systems take, though 350 would be allowed in a host.
PARTS = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}
# Devices, not files, on Windows; with any extension too.
RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:[.:].*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A full name. Spelling is kept; compare with ``key``, for names are one whatever their case."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        for kind, pattern in PARTS.items():
            part: str = getattr(self, kind)
            if not pattern.fullmatch(part) or part.endswith(".") or RESERVED.fullmatch(part):
                raise InvalidName("invalid model name")

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Missing parts get their defaults. A typed scheme and ``:local`` (never the cloud) are dropped."""
        rest = _source(text)
        tag = DEFAULT_TAG
        if rest.rfind(":") > rest.rfind("/"):
            rest, tag = _cut(rest, ":")
        host, namespace = DEFAULT_HOST, DEFAULT_NAMESPACE
        model = rest
        if "/" in rest:
            namespace, model = _cut(rest, "/")
        if "/" in namespace:
            host, namespace = _cut(namespace, "/")
            scheme, separator, bare = host.partition("://")
            host = bare if separator and scheme else host
        return cls(host, namespace, model, tag)

    def short(self) -> str:
        """The shortest text that means this name; always with its tag."""
        text = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{text}"
        return text if self.namespace.lower() == DEFAULT_NAMESPACE else f"{self.namespace}/{text}"

    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def parts(self) -> tuple[str, str, str, str]:
        """The path of the manifest below ``manifests/``."""
        return self.host, self.namespace, self.model, self.tag

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Equal for names that differ in case only."""
        return self.host.lower(), self.namespace.lower(), self.model.lower(), self.tag.lower()

    @property
    def cloud(self) -> bool:
        """The name itself asks for a remote model (``model:cloud``, ``model:120b-cloud``)."""
        tag = self.tag.lower()
        return tag == "cloud" or tag.endswith("-cloud")


def _cut(text: str, separator: str) -> tuple[str, str]:
    """Around the last separator. An empty side stays empty, and no part may be empty."""
    left, _, right = text.rpartition(separator)
    return left, right


def _source(text: str) -> str:
    """``text`` without ``:local``; ``model:20b:cloud`` becomes ``model:20b-cloud``."""
    head, separator, suffix = text.rpartition(":")
    suffix = suffix.strip().lower()
    if not separator or suffix not in ("local", "cloud"):
        return text
    if _has_source(head):
        raise InvalidName(f'use either :local or :cloud, not both: "{text}"')
    if suffix == "local":
        return head
    return f"{head}-cloud" if head.rfind(":") > head.rfind("/") else text


def _has_source(text: str) -> bool:
    tag = text[text.rfind("/") + 1 :].lower().partition(":")[2]
    return tag in ("local", "cloud") or tag.endswith("-cloud")
