"""Encoders: BERT, XLM-RoBERTa and RoBERTa, as embedding models and as rerankers, and Nomic's BERT."""

from __future__ import annotations

from typing import Any

from converters.architectures.config import Config
from converters.architectures.rope import Rope
from converters.architectures.steps import SkipRows
from converters.architectures.table import Architecture, Requires, Setting, Tensor, layers
from converters.errors import Unsupported
from converters.gguf.metadata import Metadata

RANK = 4
TYPES = "tokenizer.ggml.token_type_count"
POOLING = "bert.pooling_type"

LAYERS = tuple(
    layers(
        (
            ("attention.self.query", "attn_q"),
            ("attention.self.key", "attn_k"),
            ("attention.self.value", "attn_v"),
            ("attention.output.dense", "attn_output"),
            ("attention.output.LayerNorm", "attn_output_norm"),
            ("intermediate.dense", "ffn_up"),
            ("output.dense", "ffn_down"),
            ("output.LayerNorm", "layer_output_norm"),
        ),
        hf="encoder.layer.{n}.",
    )
)
EMBEDDINGS = (
    Tensor("embeddings.word_embeddings.weight", "token_embd.weight"),
    Tensor("embeddings.token_type_embeddings.weight", "token_types.weight"),
    Tensor("embeddings.LayerNorm.*", "token_embd_norm.*"),
)
SETTINGS = (
    Setting("vocab_size", "vocab_size"),
    Setting("hidden_size", "embedding_length"),
    Setting("num_hidden_layers", "block_count"),
    Setting("num_attention_heads", "attention.head_count"),
    Setting("intermediate_size", "feed_forward_length"),
    Setting("layer_norm_eps", "attention.layer_norm_epsilon", "f32", default=1e-12),
)
CONTEXT = Setting("max_position_embeddings", "context_length")
REQUIRES = (
    Requires("hidden_act", ("gelu", "gelu_new", "gelu_pytorch_tanh")),
    Requires("position_embedding_type", ("absolute",), written=False),
    Requires("is_decoder", (False,), written=False),
)
RENAMES = ((r"^(bert|roberta|model)\.", ""), (r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))
# The pooler and the heads of pre-training are no part of an embedding.
DROP = r"^pooler\.|^cls\.|^lm_head\.|^qa_outputs\."
ENCODER: dict[str, Any] = {"attention.causal": False}


def token_types(config: Config, metadata: Metadata) -> None:
    metadata.add(TYPES, "u32", config.get("type_vocab_size", 2))


def types_to_config(metadata: Metadata, found: dict[str, Any]) -> None:
    found["type_vocab_size"] = metadata.get(TYPES, 2)


def one_label(config: Config, metadata: Metadata) -> None:
    """A reranker gives one score."""
    token_types(config, metadata)
    labels = len(config.get("id2label") or {"0": ""}) if "num_labels" not in config else config["num_labels"]
    if labels != 1:
        raise Unsupported(f"only rerankers with one score can be converted, this classifier has {labels} labels")


def label_to_config(metadata: Metadata, found: dict[str, Any]) -> None:
    types_to_config(metadata, found)
    found |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}


def is_(tokenizers: tuple[str, ...], rank: bool) -> Any:
    """Whether a GGUF has one of these tokenizers and is a reranker or not."""

    def when(metadata: Metadata) -> bool:
        reranks = metadata.get(POOLING) == RANK
        return metadata.get("tokenizer.ggml.model") in tokenizers and reranks == rank

    return when


BERT = Architecture(
    "bert",
    ("BertModel", "BertForMaskedLM", "BertForPreTraining"),
    "bert",
    (*EMBEDDINGS, Tensor("embeddings.position_embeddings.weight", "position_embd.weight"), *LAYERS),
    (*SETTINGS, CONTEXT),
    None,
    REQUIRES,
    ENCODER,
    drop=DROP,
    renames=RENAMES,
    when=is_(("bert",), False),
    keys=token_types,
    config=types_to_config,
    generates=False,
    tolerance=5e-3,
)


def below(prefix: str, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A model with a head keeps its encoder under a name."""
    return tuple(Tensor(prefix + tensor.hf, tensor.gguf, tensor.step) for tensor in tensors)


BERT_RANK = Architecture(
    "bert",
    ("BertForSequenceClassification",),
    "bert",
    (
        *below("bert.", (*BERT.tensors, Tensor("pooler.dense.*", "cls.*"))),
        Tensor("classifier.*", "cls.output.*"),
    ),
    BERT.settings,
    None,
    REQUIRES,
    {**ENCODER, "pooling_type": RANK},
    renames=RENAMES[1:],
    when=is_(("bert",), True),
    keys=one_label,
    config=label_to_config,
    generates=False,
    tolerance=5e-3,
)


def skipped(config: Config) -> int:
    """Positions count from the padding token's id + 1."""
    return int(config.get("pad_token_id", 1)) + 1


def roberta_keys(config: Config, metadata: Metadata) -> None:
    token_types(config, metadata)
    metadata.add("bert.context_length", "u32", config.whole("max_position_embeddings") - skipped(config))


def roberta_rank_keys(config: Config, metadata: Metadata) -> None:
    one_label(config, metadata)
    roberta_keys(config, metadata)


def roberta_config(metadata: Metadata, found: dict[str, Any]) -> None:
    types_to_config(metadata, found)
    padding = metadata.get("tokenizer.ggml.padding_token_id", 1)
    found |= {"pad_token_id": padding, "max_position_embeddings": metadata.get("bert.context_length") + padding + 1}


def roberta_rank_config(metadata: Metadata, found: dict[str, Any]) -> None:
    label_to_config(metadata, found)
    roberta_config(metadata, found)


ROBERTA_TENSORS = (
    *EMBEDDINGS,
    Tensor("embeddings.position_embeddings.weight", "position_embd.weight", SkipRows(skipped)),
    *LAYERS,
)
CLASSIFIER = (Tensor("classifier.dense.*", "cls.*"), Tensor("classifier.out_proj.*", "cls.output.*"))


def roberta(classes: tuple[str, ...], model_type: str, tokenizers: tuple[str, ...], *, rank: bool) -> Architecture:
    return Architecture(
        "bert",
        classes,
        model_type,
        (*below("roberta.", ROBERTA_TENSORS), *CLASSIFIER) if rank else ROBERTA_TENSORS,
        SETTINGS,
        None,
        REQUIRES,
        {**ENCODER, **({"pooling_type": RANK} if rank else {})},
        drop=r"\bpooler\." if rank else DROP,
        renames=RENAMES[1:] if rank else RENAMES,
        when=is_(tokenizers, rank),
        keys=roberta_rank_keys if rank else roberta_keys,
        config=roberta_rank_config if rank else roberta_config,
        generates=False,
        tolerance=5e-3,
    )


XLM_ROBERTA = roberta(("XLMRobertaModel", "XLMRobertaForMaskedLM"), "xlm-roberta", ("t5",), rank=False)
XLM_ROBERTA_RANK = roberta(("XLMRobertaForSequenceClassification",), "xlm-roberta", ("t5",), rank=True)
ROBERTA = roberta(("RobertaModel", "RobertaForMaskedLM"), "roberta", ("gpt2",), rank=False)
ROBERTA_RANK = roberta(("RobertaForSequenceClassification",), "roberta", ("gpt2",), rank=True)

NOMIC_BERT = Architecture(
    "nomic-bert",
    ("NomicBertModel",),
    "nomic_bert",
    (
        *EMBEDDINGS[:2],
        Tensor("emb_ln.*", "token_embd_norm.*"),
        *layers(
            (
                ("attn.Wqkv", "attn_qkv"),
                ("attn.out_proj", "attn_output"),
                ("norm1", "attn_output_norm"),
                ("mlp.fc11", "ffn_up"),
                ("mlp.fc12", "ffn_gate"),
                ("mlp.fc2", "ffn_down"),
                ("norm2", "layer_output_norm"),
            ),
            hf="encoder.layers.{n}.",
        ),
    ),
    (
        Setting("vocab_size", "vocab_size"),
        Setting("hidden_size", "embedding_length", aliases=("n_embd",)),
        Setting("num_hidden_layers", "block_count", aliases=("n_layer",)),
        Setting("num_attention_heads", "attention.head_count", aliases=("n_head",)),
        Setting("intermediate_size", "feed_forward_length", aliases=("n_inner",)),
        Setting("layer_norm_eps", "attention.layer_norm_epsilon", "f32", aliases=("layer_norm_epsilon",)),
        Setting("max_position_embeddings", "context_length", aliases=("max_trained_positions", "n_positions")),
    ),
    Rope(count=False, theta=1000.0),
    (
        Requires("hidden_act", ("silu", "swiglu"), aliases=("activation_function",)),
        Requires("qkv_proj_bias", (False,), written=False),
        Requires("prenorm", (False,), written=False),
        Requires("rotary_emb_interleaved", (False,), written=False),
        Requires("moe_every_n_layers", (0,), written=False),
    ),
    ENCODER,
    drop=DROP,
    renames=(*RENAMES, (r"^nomic_bert\.", "")),
    keys=token_types,
    config=types_to_config,
    generates=False,
)

ROWS = (BERT, BERT_RANK, XLM_ROBERTA, XLM_ROBERTA_RANK, ROBERTA, ROBERTA_RANK, NOMIC_BERT)
