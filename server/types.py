"""The one dialect spoken inside: what every protocol is parsed into and answered with.

Stdlib only. Knows nothing of HTTP, JSON spelling, processes or llama.cpp. All records are frozen; times are
nanoseconds, sizes bytes, token counts plain ints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Think = bool | Literal["low", "medium", "high", "max"] | None
Format = Literal["json"] | dict[str, Any] | None
FinishReason = Literal["stop", "length", "load", "unload"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool. ``arguments`` is a JSON object whose key order is kept."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Logprob:
    """One token's log-probability (natural log, of the unmodified distribution) and its best alternatives."""

    token: str
    bytes: tuple[int, ...]
    logprob: float
    top: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model calls tools: as it likes, not at all, or it must (``name`` "" = any of them).

    ``parallel`` False: one call at the most.
    """

    kind: Literal["auto", "none", "required"] = "auto"
    name: str = ""
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """``options`` holds only what the client gave, already type-checked by ``server.options.parse``.

    ``keep_alive``: seconds, negative = for ever, None = not given. ``tool_choice``: "auto", "none", "required", or
    ``tool:`` and the name of the one tool to be called. ``parallel_tool_calls`` False = at most one call in the answer.
    ``think_budget``: the most tokens to think, None = no bound.
    """

    model: str
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    format: Format = None
    think: Think = None
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    render_only: bool = False


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """``system``/``template``: None = the model's own. ``context``: token ids of an earlier answer."""

    model: str
    prompt: str = ""
    suffix: str = ""
    system: str | None = None
    template: str | None = None
    context: tuple[int, ...] = ()
    raw: bool = False
    images: tuple[bytes, ...] = ()
    format: Format = None
    think: Think = None
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    render_only: bool = False


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """``dimensions`` 0 = all. ``normalize``: L2 (``/api/embed``) or as computed (legacy route)."""

    model: str
    inputs: tuple[str, ...]
    truncate: bool = True
    dimensions: int = 0
    normalize: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None


@dataclass(frozen=True, slots=True)
class TokenizeRequest:
    """``add_special``: with the tokens that the model wants around a text. ``parse_special``: the spelling of a
    special token is that token."""

    model: str
    text: str
    add_special: bool = False
    parse_special: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None


@dataclass(frozen=True, slots=True)
class DetokenizeRequest:
    model: str
    tokens: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None


@dataclass(frozen=True, slots=True)
class Final:
    """How a generation ended and what it cost.

    ``prompt_tokens`` counts the whole prompt, cached part included; ``cached_tokens`` of them were not
    computed anew. ``load_ns`` = time until a loaded model was at hand, filled in by ``server.inference``.
    ``truncated`` = tokens or whole messages' tokens that were cut from the input,
    ``shifted`` = tokens dropped from the context while generating. ``context`` = prompt + output token ids,
    only if asked for. ``thinking_tokens``: those of the ``output_tokens`` that were thinking.
    ``rendered`` = the prompt's text, only for render-only requests.
    """

    reason: FinishReason
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    queue_ns: int = 0
    prompt_ns: int = 0
    decode_ns: int = 0
    truncated: int = 0
    shifted: int = 0
    stop_sequence: str = ""
    context: tuple[int, ...] = ()
    rendered: str | None = None
    load_ns: int = 0
    thinking_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. The last chunk of a stream, and only it, has ``final``."""

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    final: Final | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """``vectors``: row-major little-endian float32, ``count`` rows of ``width``."""

    vectors: bytes
    count: int
    width: int
    prompt_tokens: int
    load_ns: int = 0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A name resolved by the store: all that is needed to load the model and to answer in its name.

    ``name`` is the short display name (always with tag), ``full_name`` has host and namespace. ``digest`` is
    the hex SHA-256 of the manifest's bytes, ``weights_digest`` that of the model blob. ``template`` is the Go
    TEMPLATE layer, None where the GGUF's own Jinja (or nothing) speaks. ``parameters`` are the PARAMETER
    lines by option name. ``parts``: the further files of weights that are split, in order.
    """

    name: str
    full_name: str
    digest: str
    weights_digest: str
    weights: Path
    size: int
    adapters: tuple[Path, ...] = ()
    projectors: tuple[Path, ...] = ()
    draft: Path | None = None
    template: str | None = None
    chat_template: str | None = None
    system: str = ""
    messages: tuple[Message, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization: str = ""
    context_length: int = 0
    embedding_length: int = 0
    renderer: str = ""
    parser: str = ""
    parent: str = ""
    parts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is put into memory. Two requests whose load options agree share one worker.

    ``num_ctx``: cells of one sequence's window, 0 = choose. ``num_gpu``: layers, -1 = choose, 0 = CPU.
    ``num_parallel``: sequences side by side, 0 = choose. ``num_thread`` 0 = choose. ``kv_cache_type`` is one
    type for K and V or ``"k/v"``. ``flash_attention`` None = let llama.cpp decide. ``cpu_moe``: layers whose
    experts stay on the CPU.
    """

    num_ctx: int = 0
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    tensor_split: tuple[float, ...] = ()
    use_mmap: bool | None = None
    num_thread: int = 0
    num_parallel: int = 0
    kv_cache_type: str = "f16"
    flash_attention: bool | None = None
    cpu_moe: int = 0
    draft_num_predict: int = 0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; every name and default is Ollama's, the rest llama.cpp's.

    ``seed`` -1 = random. ``logit_bias``: token id → added logit.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = -1
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    top_n_sigma: float = -1.0
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    ignore_eos: bool = False
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a generation stops. ``num_predict`` -1 = until the model stops (bounded by 10 windows),
    -2 = until the window is full. ``think_budget``: tokens of thinking after which its end is forced, -1 = as many as
    the model likes. ``num_keep`` -1 = all of the prompt. ``num_ctx`` 0 = the runner's window."""

    num_predict: int = -1
    think_budget: int = -1
    num_keep: int = 4
    num_ctx: int = 0
    stop: tuple[str, ...] = ()
    truncate: bool = True
    shift: bool = True


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages to be rendered by the model's template in the worker (system and MESSAGEs already put in)."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    think: Think = None
    template: str | None = None
    """A Go template that replaces the model's own for this request."""


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A prompt as it stands (``raw``) or as Go-template variables (prompt, suffix, system).

    ``context`` are token ids that come, detokenized, before the rendered text. ``history`` are the model's
    MESSAGE lines (empty when ``context`` continues a conversation).
    """

    prompt: str
    suffix: str = ""
    system: str = ""
    raw: bool = False
    think: Think = None
    template: str | None = None
    context: tuple[int, ...] = ()
    images: tuple[bytes, ...] = ()
    history: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation as a runner takes it. ``top_logprobs`` -1 = none wanted, 0 = only the chosen token's.

    ``template``: the Go TEMPLATE of the name that was asked for, None where the GGUF's own Jinja speaks (names
    that share weights share a worker, so it comes with each request); ``parser`` its PARSER.
    """

    prompt: ChatPrompt | TextPrompt
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    format: Format = None
    top_logprobs: int = -1
    want_context: bool = False
    render_only: bool = False
    template: str | None = None
    parser: str = ""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of one loaded model: ``weights`` + ``kv`` + ``compute`` in all, ``gpu`` of them on devices."""

    weights: int = 0
    kv: int = 0
    compute: int = 0
    gpu: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker says of itself once its model is in memory. ``num_ctx``: window of one sequence."""

    num_ctx: int
    num_parallel: int
    vocabulary: int
    memory: MemoryUse
    trained_ctx: int
    embedding_width: int
    pooling: str
    load_ns: int
    device: str = "cpu"
    sandbox: str = ""


@dataclass(frozen=True, slots=True)
class RunnerStats:
    """A worker's heartbeat, sent from inside its engine loop. ``kv_used`` counts tokens held by sequences.

    ``compute_ns``: time inside the model's forward passes; ``host_ns``: the rest of the engine's steps.
    """

    running: int = 0
    waiting: int = 0
    slots: int = 0
    kv_used: int = 0
    kv_size: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    tokens_per_second: float = 0.0
    compute_ns: int = 0
    host_ns: int = 0
