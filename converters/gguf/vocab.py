"""A tokenizer between its files of a checkpoint and the ``tokenizer.*`` keys of GGUF.

``Vocabulary`` is what both sides can say; ``read_checkpoint`` reads ``tokenizer.json`` or ``tokenizer.model`` with
their companions. Which of llama.cpp's pre-tokenizers a byte-level BPE needs is found by ``find_pre``.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from converters.checkpoint import Checkpoint
from converters.errors import InvalidSource, Unsupported
from converters.gguf import sentencepiece
from converters.gguf.metadata import Metadata

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# llama.cpp's name of a role where it is not ours; a [CLS] begins a text like a BOS does.
KEYS = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls",
        "mask": "mask", "eot": "eot", "eom": "eom"}  # fmt: skip
PREFIX = "tokenizer.ggml."


class Kind(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(slots=True)
class Vocabulary:
    """``model``: gpt2 (byte-level BPE), llama (SentencePiece BPE), t5 (unigram) or bert (WordPiece)."""

    model: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    pre: str = "default"
    special: dict[str, int] = field(default_factory=dict)
    add: dict[str, bool] = field(default_factory=dict)
    space_prefix: bool | None = None
    squeeze: bool | None = None
    lowercase: bool | None = None
    charsmap: bytes = b""
    templates: dict[str, str] = field(default_factory=dict)

    def pad_to(self, size: int) -> None:
        """As many tokens as the embedding has rows."""
        if len(self.tokens) > size:
            raise InvalidSource(
                f"the tokenizer has {len(self.tokens)} tokens, the embedding only {size} rows; "
                "resize the embedding with model.resize_token_embeddings(len(tokenizer)) and save again"
            )
        for index in range(len(self.tokens), size):
            self.tokens.append(f"[PAD{index}]")
            self.kinds.append(Kind.UNUSED)
            if self.scores is not None:
                self.scores.append(-10000.0)

    def add_to(self, metadata: Metadata) -> None:
        metadata.add(PREFIX + "model", "string", self.model)
        metadata.add(PREFIX + "pre", "string", self.pre)
        metadata.add(PREFIX + "tokens", "string", self.tokens)
        if self.scores is not None:
            metadata.add(PREFIX + "scores", "f32", self.scores)
        metadata.add(PREFIX + "token_type", "i32", [int(kind) for kind in self.kinds])
        if self.merges is not None:
            metadata.add(PREFIX + "merges", "string", self.merges)
        for role, token in self.special.items():
            metadata.add(f"{PREFIX}{KEYS[role]}_token_id", "u32", token)
        for name, value in self.add.items():
            metadata.add(f"{PREFIX}add_{name}_token", "bool", value)
        if self.space_prefix is not None:
            metadata.add(PREFIX + "add_space_prefix", "bool", self.space_prefix)
        if self.squeeze is not None:
            metadata.add(PREFIX + "remove_extra_whitespaces", "bool", self.squeeze)
        if self.lowercase is not None:
            metadata.add("tokenizer.ggml.normalizer.lowercase", "bool", self.lowercase)
        if self.charsmap:
            metadata.add(PREFIX + "precompiled_charsmap", "u8", list(self.charsmap))
        for name, template in self.templates.items():
            key = "tokenizer.chat_template" + ("" if name == "default" else f".{name}")
            metadata.add(key, "string", template)
        if others := [name for name in self.templates if name != "default"]:
            metadata.add("tokenizer.chat_templates", "string", others)


def read_checkpoint(checkpoint: Checkpoint) -> Vocabulary:
    """InvalidSource when there is no tokenizer, Unsupported for a kind that llama.cpp has none of."""
    tokenizer = checkpoint.optional_json("tokenizer.json")
    if tokenizer:
        vocabulary = of_json(tokenizer)
        if vocabulary.model == "llama" and (raw := _model_file(checkpoint)) is not None:
            _take_scores(vocabulary, sentencepiece.parse(raw))
    elif (raw := _model_file(checkpoint)) is not None:
        vocabulary = of_sentencepiece(sentencepiece.parse(raw), checkpoint.optional_json("added_tokens.json"))
    else:
        raise InvalidSource(
            "the checkpoint has no tokenizer.json and no tokenizer.model; save the tokenizer into the folder with "
            "AutoTokenizer.from_pretrained(…).save_pretrained(folder)"
        )
    _take_specials(vocabulary, checkpoint, tokenizer)
    vocabulary.templates = chat_templates(checkpoint)
    return vocabulary


def _model_file(checkpoint: Checkpoint) -> bytes | None:
    path = checkpoint.folder / "tokenizer.model"
    return path.read_bytes() if path.is_file() else None


# -- tokenizer.json -------------------------------------------------------------------------------------


def of_json(tokenizer: Mapping[str, Any]) -> Vocabulary:
    model = tokenizer.get("model") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    if kind == "BPE":
        return _sentencepiece_bpe(tokenizer) if _spells_in_text(tokenizer) else _byte_level(tokenizer)
    if kind == "WordPiece":
        return _wordpiece(tokenizer)
    if kind == "Unigram":
        return _unigram(tokenizer)
    raise Unsupported(f'tokenizers of the kind "{str(kind)[:40]}" are unknown to llama.cpp')


def _spells_in_text(tokenizer: Mapping[str, Any]) -> bool:
    """SentencePiece's BPE works on text with ▁ for blanks, GPT-2's on bytes."""
    return not _uses_bytes(tokenizer.get("pre_tokenizer")) and not _uses_bytes(tokenizer.get("decoder"))


def _uses_bytes(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return False
    inner = [*(part.get("pretokenizers") or ()), *(part.get("decoders") or ())]
    return part.get("type") == "ByteLevel" or any(map(_uses_bytes, inner))


def _tokens(tokenizer: Mapping[str, Any], vocab: Mapping[str, int]) -> tuple[list[str], list[int]]:
    """Tokens by id with their kinds; holes are filled."""
    by_id = {index: (token, Kind.NORMAL) for token, index in vocab.items()}
    for entry in tokenizer.get("added_tokens") or ():
        by_id[entry["id"]] = (entry["content"], Kind.CONTROL if entry.get("special") else Kind.USER_DEFINED)
    if not by_id or not all(isinstance(index, int) and 0 <= index < 2**24 for index in by_id):
        raise InvalidSource("tokenizer.json: the ids of its tokens are no small whole numbers")
    filled = [by_id.get(index, (f"[PAD{index}]", Kind.UNUSED)) for index in range(max(by_id) + 1)]
    return [token for token, _ in filled], [int(kind) for _, kind in filled]


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model.get("merges") or ()]
    if any(len(pair) != 2 for pair in pairs):
        raise InvalidSource("tokenizer.json: a merge is no pair")
    return pairs  # type: ignore[return-value]


def _byte_level(tokenizer: Mapping[str, Any]) -> Vocabulary:
    tokens, kinds = _tokens(tokenizer, tokenizer["model"]["vocab"])
    return Vocabulary("gpt2", tokens, kinds, merges=[f"{a} {b}" for a, b in _merges(tokenizer["model"])])


def _sentencepiece_bpe(tokenizer: Mapping[str, Any]) -> Vocabulary:
    """llama.cpp merges the pair whose token has the highest score: here, the one of the earliest merge."""
    model = tokenizer["model"]
    tokens, kinds = _tokens(tokenizer, model["vocab"])
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(_merges(model)):
        ranks.setdefault(left + right, rank)
    worst = float(len(ranks) + 1)
    for index, token in enumerate(tokens):
        if token == model.get("unk_token"):
            kinds[index] = Kind.UNKNOWN
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            kinds[index] = Kind.BYTE
    return Vocabulary(
        "llama",
        tokens,
        kinds,
        scores=[-float(ranks[token]) if token in ranks else -worst for token in tokens],
        space_prefix=_prefixes_space(tokenizer),
    )


def _prefixes_space(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a text gets a leading ▁: by a normalizer of its own, or by the pre-tokenizer."""
    return any(
        (part.get("type") == "Prepend" and part.get("prepend") == "▁")
        or (part.get("type") == "Metaspace" and (part.get("prepend_scheme") or
            ("always" if part.get("add_prefix_space", True) else "never")) != "never")
        for part in _parts(tokenizer)
    )  # fmt: skip


def _parts(tokenizer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The normalizers and pre-tokenizers, out of their sequences."""
    found: list[Mapping[str, Any]] = []
    waiting = [tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, Mapping):
            found.append(part)
            waiting += [*(part.get("normalizers") or ()), *(part.get("pretokenizers") or ())]
    return found


def _wordpiece(tokenizer: Mapping[str, Any]) -> Vocabulary:
    model = tokenizer["model"]
    continuing = model.get("continuing_subword_prefix") or "##"
    tokens, kinds = _tokens(tokenizer, model["vocab"])
    for index, token in enumerate(tokens):
        if kinds[index] == Kind.NORMAL:  # llama.cpp marks the beginning of a word, WordPiece its continuation
            tokens[index] = token.removeprefix(continuing) if token.startswith(continuing) else "▁" + token
    normalizer = next((part for part in _parts(tokenizer) if part.get("type") == "BertNormalizer"), {})
    return Vocabulary("bert", tokens, kinds, lowercase=bool(normalizer.get("lowercase", True)))


def _unigram(tokenizer: Mapping[str, Any]) -> Vocabulary:
    pieces = tokenizer["model"]["vocab"]
    tokens, kinds = _tokens(tokenizer, {token: index for index, (token, _) in enumerate(pieces)})
    unknown = tokenizer["model"].get("unk_id")
    if unknown is not None:
        kinds[unknown] = Kind.UNKNOWN
    scores = [float(score) for _, score in pieces] + [0.0] * (len(tokens) - len(pieces))
    charsmap = next(
        (part["precompiled_charsmap"] for part in _parts(tokenizer) if part.get("type") == "Precompiled"), ""
    )
    return Vocabulary(
        "t5",
        tokens,
        kinds,
        scores=scores,
        space_prefix=_prefixes_space(tokenizer),
        squeeze=any(_squeezes(part) for part in _parts(tokenizer)),
        charsmap=base64.b64decode(charsmap or ""),
    )


def _squeezes(part: Mapping[str, Any]) -> bool:
    return part.get("type") in ("WhitespaceSplit", "Strip") or (
        part.get("type") == "Replace" and "{2,}" in str((part.get("pattern") or {}).get("Regex"))
    )


# -- tokenizer.model ------------------------------------------------------------------------------------


def of_sentencepiece(model: sentencepiece.Model, added: Mapping[str, Any]) -> Vocabulary:
    """``added``: token → id of ``added_tokens.json``."""
    tokens = [piece.text for piece in model.pieces]
    kinds = [int(piece.kind) for piece in model.pieces]
    scores = [piece.score for piece in model.pieces]
    for token, index in sorted(added.items(), key=lambda item: item[1]):
        if index == len(tokens):
            tokens.append(token)
            kinds.append(Kind.USER_DEFINED)
            scores.append(-1000.0)
    return Vocabulary(
        "t5" if model.unigram else "llama",
        tokens,
        kinds,
        scores=scores,
        space_prefix=model.space_prefix,
        squeeze=model.squeeze if model.unigram else None,
        charsmap=model.charsmap if model.unigram else b"",
    )


def _take_scores(vocabulary: Vocabulary, model: sentencepiece.Model) -> None:
    """The trained scores, where the same token stands at the same place."""
    assert vocabulary.scores is not None
    for index, piece in enumerate(model.pieces[: len(vocabulary.tokens)]):
        if vocabulary.tokens[index] == piece.text:
            vocabulary.scores[index] = piece.score


# -- special tokens and templates -----------------------------------------------------------------------


def _take_specials(vocabulary: Vocabulary, checkpoint: Checkpoint, tokenizer: Mapping[str, Any]) -> None:
    """By the tokenizer's own files first; where they are silent, by config.json and generation_config.json."""
    said = checkpoint.optional_json("special_tokens_map.json") | checkpoint.optional_json("tokenizer_config.json")
    ids = {token: index for index, token in reversed(list(enumerate(vocabulary.tokens)))}
    spelled = {(entry["content"]): entry["id"] for entry in tokenizer.get("added_tokens") or ()}
    for role in ROLES:
        text = said.get(f"{role}_token")
        text = text.get("content") if isinstance(text, Mapping) else text
        index = spelled.get(text, ids.get(text)) if isinstance(text, str) else None
        given = checkpoint.config.get(f"{role}_token_id")
        if index is None and isinstance(given, int) and 0 <= given < len(vocabulary.tokens):
            index = given
        if index is not None:
            vocabulary.special[role] = index
            if vocabulary.kinds[index] in (Kind.NORMAL, Kind.USER_DEFINED):
                vocabulary.kinds[index] = Kind.CONTROL
    ends = _ends(checkpoint)
    if "eos" not in vocabulary.special and ends:
        vocabulary.special["eos"] = ends[0]
    others = [end for end in ends if end != vocabulary.special.get("eos") and end < len(vocabulary.tokens)]
    vocabulary.special |= dict(zip(("eot", "eom"), others, strict=False))
    vocabulary.add |= _added_around(vocabulary, tokenizer, said)
    if vocabulary.model == "bert" and "cls" in vocabulary.special:
        vocabulary.special |= {"bos": vocabulary.special["cls"], "eos": vocabulary.special.get("sep", 0)}


def _ends(checkpoint: Checkpoint) -> list[int]:
    """All ids that end a generation."""
    found: list[int] = []
    for source in (checkpoint.optional_json("generation_config.json"), checkpoint.config):
        given = source.get("eos_token_id")
        found += [end for end in (given if isinstance(given, list) else [given]) if isinstance(end, int)]
    return list(dict.fromkeys(found))


def _added_around(vocabulary: Vocabulary, tokenizer: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, bool]:
    """Whether BOS is put before and EOS behind every text."""
    first, last = _surrounding(tokenizer.get("post_processor"))
    spelled = vocabulary.tokens
    begins = [spelled[vocabulary.special[role]] for role in ("bos", "cls") if role in vocabulary.special]
    ends = [spelled[vocabulary.special[role]] for role in ("eos", "sep") if role in vocabulary.special]
    found = {"bos": first is not None and first in begins, "eos": last is not None and last in ends}
    for name in ("bos", "eos"):
        if not tokenizer.get("post_processor") and isinstance(said.get(f"add_{name}_token"), bool):
            found[name] = said[f"add_{name}_token"]
    if not tokenizer and "add_bos_token" not in said:
        found["bos"] = True  # SentencePiece's own files: LlamaTokenizer's default
    return found


def _surrounding(processor: Any) -> tuple[str | None, str | None]:
    """What a post-processor puts before and behind a single text."""
    if not isinstance(processor, Mapping):
        return None, None
    if processor.get("type") == "Sequence":
        pairs = [_surrounding(inner) for inner in processor.get("processors") or ()]
        return (next((a for a, _ in pairs if a), None), next((b for _, b in pairs if b), None))
    if processor.get("type") in ("BertProcessing", "RobertaProcessing"):
        return processor["cls"][0], processor["sep"][0]
    single: Sequence[Any] = processor.get("single") or ()
    names = [(item.get("SpecialToken") or {}).get("id") for item in single]
    return (names[0], names[-1]) if names else (None, None)


def chat_templates(checkpoint: Checkpoint) -> dict[str, str]:
    """By name; "default" is the one that is used."""
    if (text := checkpoint.text("chat_template.jinja")) is not None:
        return {"default": text}
    given = checkpoint.optional_json("chat_template.json").get("chat_template")
    given = given or checkpoint.optional_json("tokenizer_config.json").get("chat_template")
    if isinstance(given, str):
        return {"default": given}
    named = [entry for entry in given if isinstance(entry, Mapping)] if isinstance(given, list) else []
    found = {str(entry.get("name")): str(entry.get("template")) for entry in named}
    return {"default": found.pop("default"), **found} if "default" in found else found
