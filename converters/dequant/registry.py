"""Which format a checkpoint says that it is in, and what to do about those that nobody here can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from converters.dequant.awq import AWQ
from converters.dequant.bitsandbytes import BitsAndBytes
from converters.dequant.compressed import CompressedTensors
from converters.dequant.float8 import Float8
from converters.dequant.gptq import GPTQ
from converters.dequant.mxfp4 import MXFP4
from converters.dequant.stored import Dequantizer
from converters.errors import InvalidSource, Unsupported

FORMATS: Mapping[str, Callable[[Mapping[str, Any]], Dequantizer]] = {
    "bitsandbytes": BitsAndBytes.from_config,
    "gptq": GPTQ.from_config,
    "awq": AWQ.from_config,
    "fp8": Float8.from_config,
    "fbgemm_fp8": Float8.from_config,
    "modelopt": Float8.from_config,
    "compressed-tensors": CompressedTensors.from_config,
    "mxfp4": MXFP4.from_config,
}
# AutoRound writes what others read.
AUTO_ROUND = {"auto_gptq": "gptq", "auto_awq": "awq"}
DEQUANTIZE = (
    "load it with transformers where its library is installed, call model.dequantize(), save it with "
    "save_pretrained, and convert that"
)
ORIGINAL = "its weights cannot be made plain again: start from the checkpoint that it was quantized from"
ADVICE = {
    **dict.fromkeys(("torchao", "hqq", "quanto", "eetq", "higgs", "quark", "sinq"), DEQUANTIZE),
    **dict.fromkeys(("aqlm", "vptq", "spqr", "quip", "fp_quant", "bitnet"), ORIGINAL),
}


def for_checkpoint(config: Mapping[str, Any]) -> Dequantizer | None:
    """What reads this checkpoint, None for a plain one. ``config``: its config.json; for models that see or hear the
    entry may be in ``text_config``. Unsupported for formats that are not known here, by name and with what to do."""
    found = config.get("quantization_config")
    if found is None and isinstance(config.get("text_config"), dict):
        found = config["text_config"].get("quantization_config")
    if found is None:
        return None
    if not isinstance(found, dict):
        raise InvalidSource("config.json: quantization_config is no object")
    method = str(found.get("quant_method", "")).lower()
    if not method:  # bitsandbytes before it had a name
        method = "bitsandbytes" if found.get("load_in_8bit") or found.get("load_in_4bit") else ""
    if method in ("auto-round", "intel/auto-round"):
        method = AUTO_ROUND.get(str(found.get("packing_format")).removeprefix("auto_round:"), method)
    if method not in FORMATS:
        advice = ADVICE.get(method, f"{DEQUANTIZE}; or start from the original weights")
        raise Unsupported(f'checkpoints quantized with "{method[:40]}" cannot be converted: {advice}')
    return FORMATS[method](found)
