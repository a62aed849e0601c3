"""The trained network as a GGUF: Q8_0 matrices, F32 norms, the tokenizer and the chat template."""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from tokenizers import Tokenizer

from guide.model import Guide, Shape
from guide.prompt import CHAT_TEMPLATE, CONTROL_TOKENS, END, TAG_TOKENS
from guide.vocabulary import PRE_TOKENIZER, parts

DESCRIPTION = (
    "The built-in help model of llamada: answers questions about llamada in English and Spanish, calls tools, "
    "fills JSON schemas. Trained from scratch on text made by scripts/make_guide.py."
)


def export(model: Guide, tokenizer: Tokenizer, path: Path, kind: str = "Q8_0") -> None:
    """Writes a complete GGUF beside `path` and renames it into place."""
    new = path.with_suffix(".new")
    writer = gguf.GGUFWriter(new, "llama")
    _describe(writer, model, kind)
    _vocabulary(writer, tokenizer, model.shape.vocab)
    for name, tensor in _tensors(model):
        array = tensor.detach().float().numpy()
        if array.ndim == 1 or kind == "F32":
            writer.add_tensor(name, array)
        else:
            quantized = gguf.quants.quantize(array, gguf.GGMLQuantizationType[kind])
            writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    new.replace(path)


def _describe(writer: gguf.GGUFWriter, model: Guide, kind: str) -> None:
    shape: Shape = model.shape
    size = sum(parameter.numel() for parameter in model.parameters())
    writer.add_name("guide")
    writer.add_author("the llamada authors")
    writer.add_description(DESCRIPTION)
    writer.add_license("mit")
    writer.add_license_name("MIT License")
    writer.add_size_label(f"{size / 1e6:.1f}M")
    writer.add_languages(["en", "es"])
    writer.add_tags(["text-generation", "help", "tools"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == "Q8_0" else gguf.LlamaFileType.ALL_F32)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab)


def _vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, size: int) -> None:
    tokens, merges = parts(tokenizer, size)
    types = []
    for token in tokens:
        if token in CONTROL_TOKENS:
            types.append(gguf.TokenType.CONTROL)
        elif token in TAG_TOKENS:  # tags stay visible in the output, where the server reads them
            types.append(gguf.TokenType.USER_DEFINED)
        else:
            types.append(gguf.TokenType.UNUSED if token.startswith("[PAD") else gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index(CONTROL_TOKENS[0]))
    writer.add_eos_token_id(tokens.index(END))
    writer.add_eot_token_id(tokens.index(END))
    writer.add_pad_token_id(tokens.index(CONTROL_TOKENS[0]))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(model: Guide) -> list[tuple[str, torch.Tensor]]:
    """Names and layout of llama.cpp: q and k rows are interleaved per head for its way of turning pairs."""
    shape = model.shape
    named = [("token_embd.weight", model.embedding.weight), ("output_norm.weight", model.output_norm)]
    for index, block in enumerate(model.blocks):
        attention = block.attention
        named += [
            (f"blk.{index}.attn_norm.weight", block.attention_norm),
            (f"blk.{index}.attn_q.weight", _interleave(attention.q.weight, shape.heads)),
            (f"blk.{index}.attn_k.weight", _interleave(attention.k.weight, shape.kv_heads)),
            (f"blk.{index}.attn_v.weight", attention.v.weight),
            (f"blk.{index}.attn_output.weight", attention.o.weight),
            (f"blk.{index}.ffn_norm.weight", block.ffn_norm),
            (f"blk.{index}.ffn_gate.weight", block.gate.weight),
            (f"blk.{index}.ffn_up.weight", block.up.weight),
            (f"blk.{index}.ffn_down.weight", block.down.weight),
        ]
    return named


def _interleave(weight: torch.Tensor, heads: int) -> torch.Tensor:
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns).contiguous()
