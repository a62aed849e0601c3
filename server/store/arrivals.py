"""The last look at a model from outside (a registry, an archive) before its manifest makes it one of ours."""

from __future__ import annotations

from server.errors import InvalidRequest, StoreError
from server.store.digests import Digest
from server.store.library import Library
from server.store.manifests import Manifest
from server.store.sources import GGUF_KINDS, read


def check(library: Library, manifest: Manifest) -> None:
    """Every blob is there, and no GGUF among them is one that nobody should open. StoreError. Blocks on the disk."""
    for digest, size in manifest.blobs().items():
        if library.blobs.size(digest) != size:
            raise StoreError(f"blob {digest} was removed meanwhile; try again")
    for layer in manifest.of_kind(*GGUF_KINDS):
        _check_gguf(library, layer.digest)


def _check_gguf(library: Library, digest: Digest) -> None:
    try:
        read(library.blobs, digest)
    except InvalidRequest as error:
        library.forget([digest])
        raise StoreError(f"the model's file {str(digest)[:19]} cannot be used: {error.message}") from error
