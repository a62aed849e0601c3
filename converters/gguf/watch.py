"""What the weights of a running model are multiplied with: an eval callback on libllama's compute graph.

Needs the layout of ``struct ggml_tensor`` (ggml 0.25), which is checked against ggml's own accessors on first use.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from converters.errors import ConversionFailed

Floats = NDArray[np.float32]
F32, I32 = 0, 26
MATMUL, MATMUL_BY_EXPERT = b"MUL_MAT", b"MUL_MAT_ID"


class Tensor(ctypes.Structure):
    """``struct ggml_tensor``. ``ne``: elements per dimension, fastest first; ``nb``: strides in bytes."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


class Sink(Protocol):
    """Takes the rows that went into a weight; one of several matrices (experts, heads) takes its own."""

    def wants(self, name: str) -> bool: ...
    def rows(self, name: str, part: int, parts: int, rows: Floats) -> None:
        """``rows``: (rows, columns), into matrix ``part`` of ``parts`` of the weight ``name``."""


class Watch:
    """``callback`` goes into a context's ``cb_eval``. What goes wrong inside is kept in ``problem``: an exception
    cannot leave through C."""

    def __init__(self, sink: Sink) -> None:
        self._ggml = _ggml_base()
        self._sink = sink
        self._kinds: dict[int, bytes] = {}
        self._checked = False
        self.problem: Exception | None = None
        self.callback = lib.ggml_backend_sched_eval_callback(self._call)

    def _call(self, address: int, ask: bool, _: object) -> bool:
        """With ``ask``, whether this node is wanted; without, its inputs are there to be read. False stops."""
        if self.problem is not None:
            return False
        try:
            return self._seen(ctypes.cast(address, ctypes.POINTER(Tensor)).contents, address, ask)
        except Exception as error:
            self.problem = error
            return False

    def _seen(self, node: Tensor, address: int, ask: bool) -> bool:
        if not self._checked:
            self._check_layout(node, address)
        kind = self._kind(node.op)
        if kind not in (MATMUL, MATMUL_BY_EXPERT):
            return not ask
        weight, rows = node.src[0].contents, node.src[1].contents
        name = _plain_name(weight.name)
        if rows.type != F32 or not self._sink.wants(name):
            return not ask
        if not ask:
            self._hand_over(kind, name, weight, rows, node)
        return True

    def _hand_over(self, kind: bytes, name: str, weight: Tensor, rows: Tensor, node: Tensor) -> None:
        values, parts = self._array(rows, np.dtype(np.float32)), weight.ne[2]
        if kind == MATMUL and parts == 1:
            self._sink.rows(name, 0, 1, values.reshape(-1, rows.ne[0]))
        elif kind == MATMUL:
            for at in range(rows.ne[2]):
                self._sink.rows(name, at % parts, parts, values[:, at].reshape(-1, rows.ne[0]))
        else:
            self._by_expert(name, parts, values, node.src[2].contents)

    def _by_expert(self, name: str, experts: int, values: Floats, ids: Tensor) -> None:
        """``values``: (1, tokens, used or 1, columns); ``ids``: (tokens, used), which expert took each."""
        if ids.type != I32 or len(values) != 1:
            raise ConversionFailed(f"the experts of {name} are chosen in a way that is not known here")
        chosen = self._array(ids, np.dtype(np.int32))[0, 0]
        for expert in np.unique(chosen):
            token, slot = np.nonzero(chosen == expert)
            self._sink.rows(name, int(expert), experts, values[0, token, slot % values.shape[2]])

    def _array(self, tensor: Tensor, kind: np.dtype[Any]) -> NDArray[Any]:
        """A copy of (ne3, ne2, ne1, ne0), wherever the tensor lies."""
        shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
        span = kind.itemsize + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        raw = np.empty(span, np.uint8)
        self._ggml.ggml_backend_tensor_get(ctypes.byref(tensor), raw.ctypes.data, 0, span)
        return np.ndarray(shape, kind, raw.data, strides=strides).copy()

    def _kind(self, op: int) -> bytes:
        if op not in self._kinds:
            self._kinds[op] = self._ggml.ggml_op_name(op)
        return self._kinds[op]

    def _check_layout(self, node: Tensor, address: int) -> None:
        """The fields in front, in the middle and at the end agree with what ggml itself says of the tensor."""
        size = self._ggml.ggml_nbytes(address)
        if node.name != self._ggml.ggml_get_name(address) or not node.buffer or not 0 < node.ne[0] <= size:
            raise ConversionFailed(
                "this llama.cpp lays its tensors out in a way that is not known here: an importance matrix cannot be "
                "computed with it; install the llama-cpp-python version that llamada asks for"
            )
        self._checked = True


def _plain_name(raw: bytes) -> str:
    """``CUDA0#blk.0.attn_k.weight#0``, a copy made for a device, → ``blk.0.attn_k.weight``."""
    name = raw.decode("utf-8", "replace")
    return name.split("#")[1] if "#" in name else name


def _ggml_base() -> ctypes.CDLL:
    folder = Path(lib.__file__).parent / "lib"
    found = sorted([*folder.glob("libggml-base.*"), *folder.glob("ggml-base.dll")])
    if not found:
        raise ConversionFailed("the installed llama-cpp-python comes without its ggml-base library")
    base = ctypes.CDLL(str(found[0]))
    base.ggml_op_name.restype = ctypes.c_char_p
    base.ggml_get_name.restype = ctypes.c_char_p
    base.ggml_get_name.argtypes = [ctypes.c_void_p]
    base.ggml_nbytes.restype = ctypes.c_size_t
    base.ggml_nbytes.argtypes = [ctypes.c_void_p]
    base.ggml_backend_tensor_get.restype = None
    base.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    return base
