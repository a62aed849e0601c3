"""A checkpoint among the files of a create request: converted to one GGUF by a child process, verified there.

The files are blobs with names; the child sees them in a folder of their own, as they were on the client's disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from typing import Any

from server.errors import InvalidRequest, StoreError
from server.store.digests import Digest
from server.store.library import Library
from server.store.requests import CreateRequest
from server.store.rewrite import converter, link_files, link_parts
from server.store.sources import PLAIN, Sources, quantization

NO_DIGEST = "0000000000000000000"
DEFAULT_TYPE = "F16"
VERBS = {"model": "to-gguf", "draft": "to-gguf", "adapter": "adapter"}
STATUS = {"model": "converting model", "draft": "converting model", "adapter": "converting adapter"}


def is_checkpoint(files: Mapping[str, str]) -> bool:
    """Pickled weights count too: the converter says what is wrong with them."""
    names = [path.rpartition("/")[2] for path in files]
    return any(name.endswith(".safetensors") or name.startswith(("pytorch_model", "consolidated")) for name in names)


async def converted(
    library: Library,
    sources: Sources,
    files: Mapping[str, str],
    kind: str,
    request: CreateRequest,
    name: str,
    environment: Mapping[str, str],
) -> AsyncGenerator[dict[str, Any], None]:
    """Progress lines; the layer is among the ``sources`` when they end. InvalidRequest when it cannot be made."""
    digests = {path: Digest.parse(digest) for path, digest in files.items()}
    blobs, (wanted, final) = library.blobs, type_for(request, kind)
    with ExitStack() as pins, blobs.staging() as folder:
        pins.enter_context(library.pin(list(digests.values())))
        if absent := [path for path, digest in digests.items() if not blobs.has(digest)]:
            raise StoreError(f"the file {absent[0]} was not uploaded; send its blob first")
        out = folder / "out.gguf"
        command = [VERBS[kind], "--in", str(link_files(folder, blobs, digests)), "--out", str(out)]
        if kind == "adapter":
            base = sources.model()
            whole = blobs.path(base.part.layer.digest)
            command += ["--base", str(link_parts(folder, blobs, base.files) if base.files else whole)]
        else:
            command += ["--type", wanted, "--name", name]
        status = STATUS[kind]
        async with aclosing(converter(command, folder / "stderr", environment)) as lines:
            async for told in lines:
                status = told.get("status", status)
                yield _event(told, status)
        if not out.is_file():
            raise InvalidRequest("the conversion left no model")
        digest, created = await asyncio.to_thread(blobs.adopt, out)
        await asyncio.to_thread(sources.add_converted, digest, created, kind, final=final)


def type_for(request: CreateRequest, kind: str) -> tuple[str, bool]:
    """The type to convert to, and whether it is the last: with an importance matrix or types of single tensors the
    model is made plain first and quantized as any other then."""
    given = {"model": request.quantize, "draft": request.draft_quantize}.get(kind, "")
    wanted = quantization(given) if given else DEFAULT_TYPE
    by_matrix = request.imatrix or request.calibration or request.calibrate_self or request.tensor_types
    if kind == "model" and by_matrix and wanted not in PLAIN:
        return DEFAULT_TYPE, False
    return wanted, True


def _event(told: Mapping[str, Any], status: str) -> dict[str, Any]:
    if "result" in told:
        return {"status": summary(told["result"])}
    if told.get("total"):
        return {"status": status, "digest": NO_DIGEST, "total": told["total"], "completed": told["completed"]}
    return {"status": status}


def summary(result: Mapping[str, Any]) -> str:
    """The findings of the verify gate in a line."""
    parts = ["verified: it loads"]
    if "tokens" in result:
        parts.append(f"{result['tokens']} tokens of the test text are equal")
    if "kl" in result:
        parts.append(f"KL divergence {result['kl']:.2g}")
    if "cosine" in result:
        parts.append(f"cosine {result['cosine']:.6f}")
    if "chat_tokens" in result:
        parts.append(f"{result['chat_tokens_equal']} of {result['chat_tokens']} tokens of a chat are equal")
    parts += [str(result[name]) for name in ("tokenizer", "note") if name in result]
    parts += [f"not checked: {name} ({reason})" for name, reason in (result.get("skipped") or {}).items()]
    return "; ".join(parts)
