"""A projector file through llama.cpp's mtmd, beside a text model of its width: what the text model would read."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter
from llama_cpp import llama_cpp as lib
from llama_cpp import mtmd_cpp as mtmd

NANO = Path(__file__).parents[2] / "golden" / "models" / "nano.gguf"
WIDTH = 64  # of nano
IMAGE = 1


@lib.llama_log_callback
def _silent(level: int, text: bytes, _: object) -> None:
    pass


def text_model(path: Path, *, rotated_in_three: bool) -> Path:
    """nano, or nano as a Qwen2-VL, whose places have three dimensions."""
    reader = GGUFReader(NANO)
    architecture = "qwen2vl" if rotated_in_three else "llama"
    writer = GGUFWriter(path, architecture)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kinds = field.types
            name = field.name.replace("llama.", f"{architecture}.", 1)
            writer.add_key_value(name, field.contents(), kinds[0], kinds[1] if len(kinds) > 1 else None)
    if rotated_in_three:
        writer.add_array("qwen2vl.rope.dimension_sections", [4, 2, 2, 0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def see(projector: Path, text: Path, image: np.ndarray) -> np.ndarray:
    """(tokens, width) of an image (height, width, 3) in bytes."""
    lib.llama_log_set(_silent, ctypes.c_void_p(0))
    model = lib.llama_model_load_from_file(str(text).encode(), lib.llama_model_default_params())
    assert model
    params = mtmd.mtmd_context_params_default()
    params.use_gpu, params.print_timings, params.warmup, params.n_threads, params.flash_attn_type = (
        False,
        False,
        False,
        1,
        0,
    )
    context = mtmd.mtmd_init_from_file(str(projector).encode(), model, params)
    assert context, "mtmd does not load the projector"
    data = np.ascontiguousarray(image)
    bitmap = mtmd.mtmd_bitmap_init(image.shape[1], image.shape[0], (ctypes.c_uint8 * data.size).from_buffer(data))
    chunks = mtmd.mtmd_input_chunks_init()
    marker = b"<__media__>"
    told = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
    assert mtmd.mtmd_tokenize(context, chunks, ctypes.byref(told), (ctypes.c_void_p * 1)(bitmap), 1) == 0
    pieces = [mtmd.mtmd_input_chunks_get(chunks, at) for at in range(mtmd.mtmd_input_chunks_size(chunks))]
    (piece,) = [p for p in pieces if mtmd.mtmd_input_chunk_get_type(p) == IMAGE]
    count = mtmd.mtmd_input_chunk_get_n_tokens(piece)
    assert mtmd.mtmd_encode_chunk(context, piece) == 0
    found = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), (count, WIDTH)).copy()
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_bitmap_free(bitmap)
    mtmd.mtmd_free(context)
    lib.llama_model_free(model)
    return found
