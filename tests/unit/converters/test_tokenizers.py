"""Small tokenizers of every kind, trained here: the same ids in llama.cpp, and back as tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from converters.checkpoint import Checkpoint
from converters.errors import InvalidSource, Unsupported
from converters.gguf import find_pre as finding
from converters.gguf import pretokenizers, sentencepiece
from converters.gguf.evaluate import Loaded
from converters.gguf.find_pre import find_pre
from converters.gguf.metadata import Metadata
from converters.gguf.vocab import Vocabulary, of_json, read_checkpoint
from converters.gguf.vocab_to_hf import of_metadata, tokenizer_config, tokenizer_json
from converters.gguf.write import write
from converters.torture import TORTURE
from modelfiles.gguf import read_header

SIZE = 3000


def save(tokenizer: Tokenizer, folder: Path, **config: Any) -> Checkpoint:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Checkpoint(folder, {}, {})


def in_llama_cpp(vocabulary: Vocabulary, folder: Path, text: str, **how: bool) -> list[int]:
    metadata = Metadata()
    metadata.add_plain("general.architecture", "llama")
    vocabulary.add_to(metadata)
    path = folder / "vocab.gguf"
    path.unlink(missing_ok=True)
    write(path, metadata, [], lambda done, total: None)
    with Loaded(path, vocab_only=True) as model:
        return model.tokenize(text, **how)


def back(folder: Path) -> tuple[Tokenizer, Vocabulary]:
    """The tokenizer.json of the vocabulary that ``in_llama_cpp`` wrote."""
    vocabulary = of_metadata(Metadata.of(read_header(folder / "vocab.gguf")))
    assert tokenizer_config(vocabulary, 512)["model_max_length"] == 512
    return Tokenizer.from_str(json.dumps(tokenizer_json(vocabulary))), vocabulary


@pytest.mark.parametrize("row", pretokenizers.TABLE, ids=lambda row: row.names[0])
def test_the_pre_tokenizer_of_a_bpe_is_found(row: pretokenizers.PreTokenizer, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE(ignore_merges=row.whole))
    whole = json.loads(tokenizer.to_str())
    tokenizer = Tokenizer.from_str(json.dumps({**whole, "pre_tokenizer": pretokenizers.to_json(row)}))
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([*tiny_models.corpus(), *[TORTURE] * 20], trainer)
    made = json.loads(tokenizer.to_str())
    vocabulary = of_json(made)
    assert pretokenizers.known_structure(made) == row.names[0]
    vocabulary.pre = find_pre(vocabulary, made)
    assert vocabulary.pre == row.names[0] or vocabulary.pre not in pretokenizers.APPROXIMATE
    text = pretokenizers.latin(TORTURE) if vocabulary.pre in pretokenizers.APPROXIMATE else TORTURE
    wanted = tokenizer.encode(text).ids
    assert in_llama_cpp(vocabulary, tmp_path, text) == wanted
    again, _ = back(tmp_path)
    assert again.encode(text, add_special_tokens=False).ids == wanted


def test_behaviour_decides_where_the_structure_is_unknown(tmp_path: Path) -> None:
    made = json.loads(tiny_models.bpe(pretokenizers.LLAMA3, SIZE).backend_tokenizer.to_str())
    (split, _) = made["pre_tokenizer"]["pretokenizers"]
    split["pattern"]["Regex"] = split["pattern"]["Regex"].replace(r"\s+(?!\S)|\s+", r"\s+(?!\S)|[\s]+")
    assert pretokenizers.known_structure(made) is None
    vocabulary = of_json(made)
    vocabulary.pre = find_pre(vocabulary, made)
    wanted = Tokenizer.from_str(json.dumps(made)).encode(TORTURE).ids
    assert in_llama_cpp(vocabulary, tmp_path, TORTURE) == wanted


def test_one_that_llama_cpp_does_not_have_is_refused() -> None:
    made = json.loads(tiny_models.bpe(r"[aeiou]+|[^aeiou]+", SIZE).backend_tokenizer.to_str())
    with pytest.raises(Unsupported, match=r"none of llama\.cpp's pre-tokenizers cuts text as this tokenizer does"):
        find_pre(of_json(made), made)


def test_without_the_judge_the_structure_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "judge_available", lambda: False)
    made = json.loads(tiny_models.bpe(pretokenizers.QWEN2).backend_tokenizer.to_str())
    assert find_pre(of_json(made), made) == "qwen2"
    made["pre_tokenizer"] = {"type": "Whitespace"}
    with pytest.raises(Unsupported, match=r"pip install 'llamada\[train\]'"):
        find_pre(of_json({**made, "decoder": {"type": "ByteLevel"}}), made)


def test_text_is_composed_first_where_the_tokenizer_does(tmp_path: Path) -> None:
    made = json.loads(tiny_models.bpe(pretokenizers.QWEN2, SIZE).backend_tokenizer.to_str())
    made["normalizer"] = {"type": "NFC"}
    assert find_pre(of_json(made), made) == "qwen2"


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_bpe(tmp_path: Path, prefix: bool) -> None:
    """As Llama 2 and Mistral (with a blank before the text) and Gemma (without) have it."""
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    blanks = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blanks]) if prefix else blanks
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<unk>", "<s>", "</s>", *raw], show_progress=False, max_token_length=12
    )
    tokenizer.train_from_iterator((word for text in tiny_models.corpus() for word in text.split()), trainer)
    made = json.loads(tokenizer.to_str())
    made["added_tokens"] = [entry for entry in made["added_tokens"] if entry["content"] not in raw]
    tokenizer = Tokenizer.from_str(json.dumps(made))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    checkpoint = save(tokenizer, tmp_path / "in", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    vocabulary = read_checkpoint(checkpoint)
    assert (vocabulary.model, vocabulary.space_prefix, vocabulary.add) == ("llama", prefix, {"bos": True, "eos": False})
    wanted = tokenizer.encode(TORTURE).ids
    assert in_llama_cpp(vocabulary, tmp_path, TORTURE, special=True) == wanted
    again, restored = back(tmp_path)
    assert again.encode(TORTURE).ids == wanted
    assert restored.special == {"bos": 1, "eos": 2, "unk": 0}


def test_unigram(tmp_path: Path) -> None:
    """As XLM-RoBERTa has it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(tiny_models.Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=2000, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(tiny_models.corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    vocabulary = read_checkpoint(save(tokenizer, tmp_path / "in", **names))
    assert (vocabulary.model, vocabulary.squeeze) == ("t5", True)
    for text in ("Hello world, it's a  test of   1234 words", "la compresión de modelos", "def f(x): return x"):
        wanted = tokenizer.encode(text).ids
        assert in_llama_cpp(vocabulary, tmp_path, text, special=True) == wanted
        assert back(tmp_path)[0].encode(text).ids == wanted


def test_wordpiece(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=2000, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    tokenizer.train_from_iterator(tiny_models.corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    vocabulary = read_checkpoint(save(tokenizer, tmp_path / "in", **names))
    assert (vocabulary.model, vocabulary.lowercase) == ("bert", True)
    for text in ("Hello World, it's Café time! 1234", "unaffable tokens: x_1 (y)", "你好 world"):
        wanted = tokenizer.encode(text).ids
        assert in_llama_cpp(vocabulary, tmp_path, text, special=True) == wanted
        assert back(tmp_path)[0].encode(text).ids == wanted


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def test_tokenizer_model_alone_is_enough(tmp_path: Path) -> None:
    import struct

    def piece(text: str, score: float, kind: int = 1) -> bytes:
        raw = field(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
        return field(1, raw + (field(3, kind) if kind != 1 else b""))

    words = [piece("▁a", -1.0), piece("▁", -2.0), piece("a", -3.0), piece("b", -4.0), piece("ab", -0.5)]
    raw = [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3)]
    raw += [piece(f"<0x{byte:02X}>", 0, 6) for byte in range(256)]
    (tmp_path / "tokenizer.model").write_bytes(b"".join([*raw, *words]) + field(2, field(3, 2)))
    config = {"bos_token_id": 1, "eos_token_id": 2}
    vocabulary = read_checkpoint(Checkpoint(tmp_path, config, {}))
    assert (vocabulary.model, vocabulary.tokens[:3]) == ("llama", ["<unk>", "<s>", "</s>"])
    assert vocabulary.special == {"bos": 1, "eos": 2}
    assert in_llama_cpp(vocabulary, tmp_path, "ab", special=True) == [1, 260, 263]


@pytest.mark.parametrize("raw", [b"", b"\xff" * 40, b"\x0a\x7f", b"\x0a\x03\x0a\x05a", b"not a model"])
def test_a_tokenizer_model_that_is_none(raw: bytes) -> None:
    with pytest.raises(InvalidSource, match="no SentencePiece model"):
        sentencepiece.parse(raw)
