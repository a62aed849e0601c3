"""A GGUF whose answers are written down: every token of a line leads to the next one, whatever was asked.

One layer without effect, random unit vectors as embeddings, and an output matrix that finds the successor. The last
token of the prompt, which the template chooses, begins a line. So the server's whole way from weights to JSON is
tested on exact text: tool calls, line separators, characters in four tokens.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import gguf
import numpy as np

WIDTH = 64
END = "<|end|>"
TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m.role }} {% if m.role == 'tool' %}{{ m.name }}={% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endfor %}"
    "{% if messages[-1].role == 'tool' %}<|told|>{% elif tools %}<|call|>{% else %}<|say|>{% endif %}"
)
CALLS = (
    "<|call|>",
    "<tool_call>", '\n{"na', 'me": "get_weather", ', '"arguments": {"city": "Ma', 'drid", "days": 3}', "}\n",
    "</tool_call>", "\n",
    "<tool_call>\n", '{"name": "get_time"', ', "arguments"', ': {"zone": "CET"}}', "\n</tool_call>",
    END,
)  # fmt: skip
SAID = (
    "<|say|>",
    "one",
    "\u2028",
    "two",
    "\u2029",
    "three",
    "\u0085",
    'a "quote" ',
    "<b>&",
    "\U0001f999",
    "!\r\n",
    END,
)
TOLD = ("<|told|>", "It is ", "sunny.", END)
TEXT = "".join(SAID[1:-1])
CONTROL = ("<|turn|>", "<|call|>", "<|say|>", "<|told|>", END)


def byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return {b: chr(b) for b in kept} | {b: chr(256 + i) for i, b in enumerate(rest)}


def steps(line: tuple[str, ...]) -> list[str]:
    """The tokens of a line: a character beyond the basic plane is four, one for each byte."""
    letters = byte_letters()
    return [t for part in line for t in ([letters[b] for b in part.encode()] if part > "\U0000ffff" else [part])]


def write_parrot(path: Path) -> None:
    phrases = {part for line in (CALLS, SAID, TOLD) for part in line if part <= "\U0000ffff"} - set(CONTROL)
    tokens = [*byte_letters().values(), *sorted(phrases), *CONTROL]
    kinds = [gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.USER_DEFINED] * len(phrases)
    kinds += [gguf.TokenType.CONTROL] * len(CONTROL)
    writer = gguf.GGUFWriter(path, "llama")
    add_settings(writer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(tokens.index("<|turn|>"))
    writer.add_eos_token_id(tokens.index(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    add_weights(writer, tokens)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_settings(writer: gguf.GGUFWriter) -> None:
    writer.add_name("parrot")
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(0)


def add_weights(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    embedding = np.random.default_rng(7).standard_normal((len(tokens), WIDTH), np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    output = np.zeros_like(embedding)
    for line in (CALLS, SAID, TOLD):
        for token, following in itertools.pairwise(steps(line)):
            output[tokens.index(following)] += 20 * embedding[tokens.index(token)]
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((WIDTH, WIDTH), np.float32))
