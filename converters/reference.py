"""The reference: transformers on the CPU in float32. The one place where converters load a model with torch.

Weights are read by our own reader, code of a checkpoint never runs.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import safetensors
from converters.architectures.registry import of_class
from converters.checkpoint import Checkpoint
from converters.errors import ConversionFailed, Unsupported
from converters.gguf.evaluate import Loaded
from converters.progress import Progress
from converters.torture import TORTURE
from converters.verify import (
    CHAT,
    COSINE,
    COSINES,
    EXACT,
    NEW_TOKENS,
    PROBE_TOKENS,
    Findings,
    available_memory,
    kl_divergence,
    limit,
    rounded,
)  # fmt: skip
from modelfiles.errors import TemplateError
from modelfiles.gguf import Header, read_header
from modelfiles.jinja import ChatTemplate

Array = NDArray[np.float32]
LAYERS = 2
# What transformers may raise over files that it does not understand.
FOREIGN = (AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
HEADROOM = 1.25
TEXTS = (TORTURE[:400], "A short sentence.", "la compresión de modelos 123")
SCORES = {"F32": 0.01, "F16": 0.02, "BF16": 0.1, "Q8_0": 0.2}
SCORE = 1.0


def compare(checkpoint: Checkpoint, header: Header, path: Path, model: Loaded, findings: Findings) -> None:
    """Logits, then a greedy chat; of an embedding model the vectors."""
    bytes_needed = int(4 * HEADROOM * sum(math.prod(t.shape) for t in checkpoint.tensors.values()))
    if bytes_needed > available_memory():
        compare_first_layers(checkpoint, path.parent, findings)
        findings.skipped["chat"] = "the whole model does not fit into memory as float32"
        return
    try:
        judge = load(checkpoint)
    except ConversionFailed as error:  # a model that only its own code can load
        findings.skipped["logits"] = findings.skipped["chat"] = error.message
        return
    if not of_class(checkpoint.class_name).generates:
        compare_vectors(judge, header, model, findings)
        return
    compare_logits(judge, header, model, findings)
    compare_chat(checkpoint, judge, header, model, findings)
    if header.file_type not in EXACT:
        # What quantizing costs hides what a wrong conversion would: the same tensors once more, without that loss.
        compare_first_layers(checkpoint, path.parent, findings)


def load(checkpoint: Checkpoint) -> Any:
    """The checkpoint as transformers computes it. ConversionFailed when it does not know it."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        return loader(transformers, checkpoint.class_name).from_pretrained(
            checkpoint.folder, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False,
            local_files_only=True, use_safetensors=True,
        ).eval()  # fmt: skip
    except FOREIGN as error:
        raise ConversionFailed(f"transformers cannot load the checkpoint: {str(error)[:300]}") from None


def loader(transformers: Any, name: str) -> Any:
    """The class of transformers that computes what the GGUF will."""
    if of_class(name).generates:
        return transformers.AutoModelForCausalLM
    if name.endswith("ForSequenceClassification"):
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModel  # without the heads of pre-training


def reference_logits(judge: Any, tokens: list[int]) -> Array:
    import torch

    with torch.no_grad():
        return np.asarray(judge(torch.tensor([tokens])).logits[0].float().numpy())


def probe(model: Loaded, header: Header) -> list[int]:
    """Token ids that the logits are compared on."""
    room = min(PROBE_TOKENS, header.context_length or PROBE_TOKENS)
    return model.tokenize(TORTURE, special=True)[:room]


def compare_logits(judge: Any, header: Header, model: Loaded, findings: Findings) -> None:
    tokens = probe(model, header)
    wanted, found = reference_logits(judge, tokens), model.logits(tokens)
    wanted = wanted[:, : found.shape[1]]
    divergence = kl_divergence(wanted, found)
    findings.numbers |= {
        "kl": rounded(divergence),
        "max_logit_difference": rounded(float(np.abs(wanted - found).max())),
        "same_top_token": rounded(float((wanted.argmax(-1) == found.argmax(-1)).mean())),
    }
    allowed = limit(header.file_type, bool(header.setting("expert_count")))
    if not divergence <= allowed:
        findings.failed["logits"] = (
            f"the result predicts other text than the original: KL divergence {divergence:.3g} over {allowed:g}"
        )


def compare_first_layers(checkpoint: Checkpoint, beside: Path, findings: Findings) -> None:
    """The first layers alone, converted once more as F32: exact, and small where the model is not."""
    from converters.to_gguf import plan, write_model

    part = checkpoint.first_layers(LAYERS)
    inner = Findings()
    with tempfile.TemporaryDirectory(dir=beside, prefix=".layers-") as name:
        folder = Path(name)
        try:
            made = plan(part, "part")
        except Unsupported as error:
            findings.skipped["first layers"] = error.message
            return
        write_model(made, folder / "part.gguf", "F32", Progress(silent=True))
        write_part(part, folder)
        try:
            judge = load(Checkpoint.open(folder))
        except ConversionFailed as error:
            findings.skipped["first layers"] = error.message
            return
        with Loaded(folder / "part.gguf") as model:
            compare_logits(judge, read_header(folder / "part.gguf"), model, inner)
    findings.numbers |= {"layers_compared": LAYERS, "kl_of_layers": inner.numbers["kl"]}
    findings.failed |= {f"{name} of the first layers": text for name, text in inner.failed.items()}


def write_part(part: Checkpoint, folder: Path) -> None:
    """The shortened checkpoint as files, for transformers has its own ideas of what a tensor is called in memory."""
    (folder / "config.json").write_text(json.dumps(part.config))
    tensors = ((tensor.name, tensor.dtype, tensor.raw()) for tensor in part.tensors.values())
    safetensors.write(folder / "model.safetensors", tensors)


def compare_vectors(judge: Any, header: Header, model: Loaded, findings: Findings) -> None:
    """The pooled vectors of a few texts, or a reranker's scores."""
    least, furthest = 1.0, 0.0
    for text in TEXTS:
        tokens = model.tokenize(text, special=True)[: header.context_length or 512]
        wanted, found = reference_vector(judge, tokens, header.pooling or ""), model.embed(tokens)
        furthest = max(furthest, float(np.abs(wanted - found).max()))
        least = min(least, float(wanted @ found / (np.linalg.norm(wanted) * np.linalg.norm(found))))
    if header.pooling == "rank":
        findings.skipped["chat"] = "it is a reranker"
        findings.numbers["score_difference"] = rounded(furthest)
        if not furthest <= SCORES.get(header.file_type, SCORE):
            findings.failed["scores"] = f"the scores differ from the original's by {furthest:.3g}"
        return
    findings.numbers["cosine"] = round(least, 8)
    findings.skipped["chat"] = "it is an embedding model"
    allowed = COSINES.get(header.file_type, COSINE)
    if not least >= allowed:
        findings.failed["vectors"] = f"the vectors point elsewhere: cosine {least:.5f} under {allowed}"


def reference_vector(judge: Any, tokens: list[int], pooling: str) -> Array:
    import torch

    with torch.no_grad():
        out = judge(torch.tensor([tokens]))
    if pooling == "rank":
        return np.asarray(out.logits[0].float().numpy())
    states = out.last_hidden_state[0].float().numpy()
    picked = {"cls": states[0], "last": states[-1]}.get(pooling)
    return np.asarray(states.mean(0) if picked is None else picked)


def compare_chat(checkpoint: Checkpoint, judge: Any, header: Header, model: Loaded, findings: Findings) -> None:
    """One question: the prompt's ids must be equal, and for plain types every token of the greedy answer."""
    prompt = prompt_ids(checkpoint, header, model, findings)
    if prompt is None:
        return
    found, leads = model.greedy(prompt, NEW_TOKENS)
    wanted = greedy(judge, prompt, len(found))
    pairs = zip_longest(found, wanted)
    same = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), len(found))
    findings.numbers |= {"chat_tokens": len(found), "chat_tokens_equal": same}
    tie = 1e-4 if header.file_type == "F32" else 0.05
    if same < len(found) and header.file_type in EXACT and leads[same] > tie:
        findings.failed["chat"] = f"the greedy answer differs from transformers' at token {same + 1}"


def prompt_ids(checkpoint: Checkpoint, header: Header, model: Loaded, findings: Findings) -> list[int] | None:
    """The question as both sides render and tokenize it; None when there is nothing to compare."""
    template = header.chat_template
    if template is None:
        findings.numbers["prompt"] = "plain text: the checkpoint has no chat template"
        return model.tokenize(CHAT, special=True)
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
        messages = [{"role": "user", "content": CHAT}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        wanted = tokenizer(text, add_special_tokens=False).input_ids
    except FOREIGN as error:
        findings.skipped["chat"] = f"transformers cannot load the tokenizer: {str(error)[:200]}"
        return None
    try:
        bos, eos = (tokenizer.bos_token or "", tokenizer.eos_token or "")
        ours = ChatTemplate(template, bos=bos, eos=eos).render([{"role": "user", "content": CHAT}])
    except TemplateError as error:
        findings.failed["chat"] = f"the chat template cannot be rendered: {error}"
        return None
    if ours != text and not _dated(template):
        findings.failed["chat"] = "the chat template renders another text than with transformers"
    if model.tokenize(text, parse=True) != list(wanted):
        findings.failed["chat"] = "the rendered chat has other token ids than with transformers"
    return list(wanted)


def _dated(template: str) -> bool:
    """Rendered in another second the text may be another."""
    return "strftime_now" in template


def greedy(judge: Any, prompt: list[int], count: int) -> list[int]:
    import torch

    with torch.no_grad():
        out = judge.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
            max_new_tokens=count, num_beams=1, repetition_penalty=1.0, use_cache=True,
            pad_token_id=0,
        )  # fmt: skip
    return [int(token) for token in out[0, len(prompt) :]]
