"""The ``tokenizer.*`` keys of a GGUF → ``tokenizer.json``, ``tokenizer_config.json`` and the chat template.

Nothing here needs the ``tokenizers`` package; the format is that of its ``Tokenizer.to_str``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from converters.errors import Unsupported
from converters.gguf import pretokenizers
from converters.gguf.metadata import Metadata
from converters.gguf.vocab import KEYS, PREFIX, ROLES, Kind, Vocabulary

BLANK = "▁"


def of_metadata(metadata: Metadata) -> Vocabulary:
    """Unsupported for a model whose tokenizer has no counterpart."""

    def get(name: str, default: Any = None) -> Any:
        return metadata.get(PREFIX + name, default)

    model, tokens = get("model"), get("tokens")
    if model not in WRITERS or not tokens:
        raise Unsupported(f'the tokenizer "{model}" of the GGUF has no counterpart in tokenizer.json')
    special = {role: token for role, key in KEYS.items() if (token := get(f"{key}_token_id")) is not None}
    add = {name: bool(get(f"add_{name}_token", _adds(model, name))) for name in ("bos", "eos")}
    return Vocabulary(
        model,
        list(tokens),
        list(get("token_type") or [Kind.NORMAL] * len(tokens)),
        get("scores"),
        get("merges"),
        str(get("pre", "default")),
        special,
        add,
        get("add_space_prefix"),
        get("remove_extra_whitespaces"),
        get("normalizer.lowercase"),
        bytes(get("precompiled_charsmap") or b""),
        _templates(metadata),
    )


def _adds(model: str, name: str) -> bool:
    """llama.cpp's defaults where a file is silent."""
    return model in {"bos": ("llama", "bert", "t5"), "eos": ("bert", "t5")}[name]


def _templates(metadata: Metadata) -> dict[str, str]:
    names = metadata.get("tokenizer.chat_templates") or []
    found = {name: metadata.get(f"tokenizer.chat_template.{name}") for name in names}
    found["default"] = metadata.get("tokenizer.chat_template")
    return {name: text for name, text in found.items() if text}


def tokenizer_json(vocabulary: Vocabulary) -> dict[str, Any]:
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(_added(vocabulary))}
    parts: dict[str, Any] = WRITERS[vocabulary.model](vocabulary)
    return whole | parts | {"post_processor": _post_processor(vocabulary)}


def tokenizer_config(vocabulary: Vocabulary, context: int) -> dict[str, Any]:
    named = {
        f"{role}_token": vocabulary.tokens[vocabulary.special[role]] for role in ROLES if role in vocabulary.special
    }
    if vocabulary.model == "bert":
        named = {name: token for name, token in named.items() if name not in ("bos_token", "eos_token")}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **named,
    }


def _added(vocabulary: Vocabulary) -> Iterator[dict[str, Any]]:
    unknown = vocabulary.special.get("unk")
    for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        if kind in (Kind.CONTROL, Kind.USER_DEFINED) or index == unknown:
            special = kind != Kind.USER_DEFINED
            yield {"id": index, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                   "normalized": False, "special": special}  # fmt: skip


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    return {token: index for index, token in enumerate(vocabulary.tokens) if vocabulary.kinds[index] != Kind.UNUSED}


def _byte_level(vocabulary: Vocabulary) -> dict[str, Any]:
    pre = pretokenizers.named(vocabulary.pre)
    if pre is None:
        raise Unsupported(f'the pre-tokenizer "{vocabulary.pre}" cannot be written as a tokenizer.json yet')
    return {
        "normalizer": None,
        "pre_tokenizer": pretokenizers.to_json(pre),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(_ids(vocabulary), list(map(_pair, vocabulary.merges or ())), ignore_merges=pre.whole),
    }


def _pair(merge: str) -> list[str]:
    at = merge.index(" ", 1)
    return [merge[:at], merge[at + 1 :]]


def _bpe(vocab: dict[str, int], merges: list[list[str]], **changes: Any) -> dict[str, Any]:
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": vocab, "merges": merges, **changes,
    }  # fmt: skip


def _sentencepiece(vocabulary: Vocabulary) -> dict[str, Any]:
    prefix = vocabulary.space_prefix is not False
    unknown = vocabulary.special.get("unk")
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
    back = {"type": "Replace", "pattern": {"String": BLANK}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": BLANK}, blanks]}
        if prefix else blanks,
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *([strip] if prefix else [])],
        },
        "model": _bpe(
            _ids(vocabulary), merges_of(vocabulary), fuse_unk=True, byte_fallback=True,
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
        ),
    }  # fmt: skip


def merges_of(vocabulary: Vocabulary) -> list[list[str]]:
    """SentencePiece joins the pair whose whole has the best score: every way to cut a token, best token first."""
    ids = {t: i for t, i in _ids(vocabulary).items() if vocabulary.kinds[i] in (Kind.NORMAL, Kind.USER_DEFINED)}
    scores = vocabulary.scores or [0.0] * len(vocabulary.tokens)
    found: list[tuple[float, int, int, str, str]] = []
    for token, index in ids.items():
        if vocabulary.kinds[index] == Kind.NORMAL:
            for cut in range(1, len(token)):
                left, right = token[:cut], token[cut:]
                if left in ids and right in ids:
                    found.append((-scores[index], ids[left], ids[right], left, right))
    return [[left, right] for *_, left, right in sorted(found)]


def _unigram(vocabulary: Vocabulary) -> dict[str, Any]:
    scores = vocabulary.scores or [0.0] * len(vocabulary.tokens)
    kept = len(_ids(vocabulary))
    normalizers: list[dict[str, Any]] = []
    if vocabulary.charsmap:
        normalizers.append(
            {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(vocabulary.charsmap).decode()}
        )
    if vocabulary.squeeze:
        normalizers.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    blanks = {"type": "Metaspace", "replacement": BLANK, "split": True,
              "prepend_scheme": "never" if vocabulary.space_prefix is False else "always"}  # fmt: skip
    unknown = next((i for i, kind in enumerate(vocabulary.kinds) if kind == Kind.UNKNOWN), None)
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "pre_tokenizer": blanks,
        "decoder": blanks,
        "model": {"type": "Unigram", "unk_id": unknown, "byte_fallback": False,
                  "vocab": [[t, s] for t, s in zip(vocabulary.tokens[:kept], scores, strict=False)]},
    }  # fmt: skip


def _wordpiece(vocabulary: Vocabulary) -> dict[str, Any]:
    vocab = {_as_wordpiece(token, vocabulary.kinds[index]): index for token, index in _ids(vocabulary).items()}
    unknown = vocabulary.tokens[vocabulary.special.get("unk", 0)]
    lowercase = vocabulary.lowercase is not False
    return {
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    }  # fmt: skip


def _as_wordpiece(token: str, kind: int) -> str:
    if kind != Kind.NORMAL:
        return token
    return token[1:] if token.startswith(BLANK) else f"##{token}"


WRITERS: Mapping[str, Any] = {"gpt2": _byte_level, "llama": _sentencepiece, "t5": _unigram, "bert": _wordpiece}


def _post_processor(vocabulary: Vocabulary) -> dict[str, Any] | None:
    """BOS before and EOS behind a text, as the flags say; a second text follows in the same way."""
    wanted = [("bos", vocabulary.add.get("bos", False)), ("eos", vocabulary.add.get("eos", False))]
    if vocabulary.model == "bert":
        wanted = [("cls", True), ("sep", True)]
    ids = {role: vocabulary.special[role] for role, adds in wanted if adds and role in vocabulary.special}
    if not ids:
        return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True} \
            if vocabulary.model == "gpt2" else None  # fmt: skip

    def piece(role: str, kind: int) -> list[dict[str, Any]]:
        if role not in ids:
            return []
        return [{"SpecialToken": {"id": vocabulary.tokens[ids[role]], "type_id": kind}}]

    first, last = wanted[0][0], wanted[1][0]
    single = [*piece(first, 0), {"Sequence": {"id": "A", "type_id": 0}}, *piece(last, 0)]
    second = [*([] if vocabulary.model == "bert" else piece(first, 1)),
              {"Sequence": {"id": "B", "type_id": 1}}, *piece(last, 1)]  # fmt: skip
    tokens = {vocabulary.tokens[i]: {"id": vocabulary.tokens[i], "ids": [i], "tokens": [vocabulary.tokens[i]]}
              for i in ids.values()}  # fmt: skip
    return {"type": "TemplateProcessing", "single": single, "pair": [*single, *second], "special_tokens": tokens}
