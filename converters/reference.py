"""The reference: transformers on the CPU in float32. The one place where converters load a model with torch.

Weights are read by our own reader, code of a checkpoint never runs.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.architectures.registry import of_class
from converters.checkpoint import Checkpoint
from converters.errors import ConversionFailed
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
from modelfiles.gguf import Header
from modelfiles.jinja import ChatTemplate

Array = NDArray[np.float32]
LAYERS = 2  # of a model that is too big to be loaded whole
HEADROOM = 1.25


def compare(checkpoint: Checkpoint, header: Header, path: Path, model: Loaded, findings: Findings) -> None:
    """Logits, then a greedy chat; of an embedding model the vectors."""
    bytes_needed = int(4 * HEADROOM * sum(math.prod(t.shape) for t in checkpoint.tensors.values()))
    if bytes_needed > available_memory():
        compare_first_layers(checkpoint, path.parent, findings)
        findings.skipped["chat"] = "the whole model does not fit into memory as float32"
        return
    judge = load(checkpoint)
    if not of_class(checkpoint.class_name).generates:
        compare_vectors(judge, header, model, findings)
        return
    compare_logits(judge, header, model, findings)
    compare_chat(checkpoint, judge, header, model, findings)


def load(checkpoint: Checkpoint) -> Any:
    """The checkpoint as transformers computes it. ConversionFailed when it does not know it."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    kind = (
        transformers.AutoModel if not of_class(checkpoint.class_name).generates else transformers.AutoModelForCausalLM
    )
    known = getattr(transformers, checkpoint.class_name, None)
    try:
        loader = known or kind
        return loader.from_pretrained(
            checkpoint.folder, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False,
            local_files_only=True, use_safetensors=True,
        ).eval()  # fmt: skip
    except (ValueError, KeyError, OSError, ImportError) as error:
        raise ConversionFailed(f"transformers cannot load the checkpoint: {str(error)[:300]}") from None


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
    """The first layers alone, converted once more as F32, for a model that is too big for memory."""
    from converters.to_gguf import plan, write_model

    part = checkpoint.first_layers(LAYERS)
    judge = load_part(part)
    with tempfile.TemporaryDirectory(dir=beside) as folder:
        path = Path(folder) / "part.gguf"
        write_model(plan(part, "part"), path, "F32", Progress(silent=True))
        with Loaded(path) as model:
            from modelfiles.gguf import read_header

            compare_logits(judge, read_header(path), model, findings)
    findings.numbers["layers_compared"] = LAYERS


def load_part(part: Checkpoint) -> Any:
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(**{**part.config, "dtype": "float32"})
    judge = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    state = {name: torch.from_numpy(np.array(tensor.read())) for name, tensor in part.tensors.items()}
    judge.load_state_dict(state, strict=False)
    judge.tie_weights()
    return judge


def compare_vectors(judge: Any, header: Header, model: Loaded, findings: Findings) -> None:
    """The pooled vectors of a few texts."""
    import torch

    least = 1.0
    for text in (TORTURE[:400], "A short sentence.", "la compresión de modelos 123"):
        tokens = model.tokenize(text, special=True)[: header.context_length or 512]
        with torch.no_grad():
            states = judge(torch.tensor([tokens])).last_hidden_state[0].float().numpy()
        wanted = states[0] if header.pooling == "cls" else states.mean(0)
        found = model.embed(tokens)
        least = min(least, float(wanted @ found / (np.linalg.norm(wanted) * np.linalg.norm(found))))
    findings.numbers["cosine"] = round(least, 8)
    findings.skipped["chat"] = "it is an embedding model"
    allowed = COSINES.get(header.file_type, COSINE)
    if not least >= allowed:
        findings.failed["vectors"] = f"the vectors point elsewhere: cosine {least:.5f} under {allowed}"


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
    except (ValueError, KeyError, OSError, ImportError) as error:
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
