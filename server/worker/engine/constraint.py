"""Answers that must follow a JSON schema or a grammar: which tokens may come next.

Built on llguidance. A token is drawn first and checked afterwards; only where it is refused is the whole row
masked. Compiling is bounded by the schema's limits and by the compiler's own fuel, so it needs no clock: the
worst schema known that is let through takes about half a second.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from server.worker.backends.llamacpp.library import lib
from server.worker.engine.candidates import Row, SamplingError
from server.worker.engine.schema import MAX_BYTES, ConstraintError, prepare

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

__all__ = ["Constraint", "ConstraintError", "Grammars"]

CACHED = 64
# what llama.cpp's own JSON grammar allows between two tokens, and thereby Ollama; it also keeps a model from
# writing white space for ever
WHITE_SPACE = r"( |\n{1,2}[ \t]{0,20})"
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 400_000,
    "step_lexer_fuel": 50_000,
    "max_items_in_row": 10_000,  # an object of 1900 optional properties needs 7600
    "step_max_items": 50_000,
    "max_lexer_states": 20_000,  # 1–2 kB each
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}
NOT_TEXT = 1 | 2 | 8  # LLAMA_TOKEN_ATTR_UNKNOWN, _UNUSED, _CONTROL
USER_DEFINED = 16
# one byte of a mask → what it adds to eight logits
FORBID: NDArray[np.float32] = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), 0, -np.inf
).astype(np.float32)


class Grammars:
    """All grammars of one model. The tokenizer's tables are built at the first use (0.6 s at 152k tokens)."""

    def __init__(self, vocab_pointer: Any, n_vocab: int, eog: Sequence[int], pieces: Callable[[int], bytes]) -> None:
        self._vocab, self._n_vocab, self._eog, self._pieces = vocab_pointer, n_vocab, eog, pieces
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[bytes, LLMatcher] = OrderedDict()
        self._mask = np.zeros(-(-n_vocab // 32) * 4, np.uint8)  # scratch space, shared by all sequences
        self._forbidden = np.zeros((self._mask.size, 8), np.float32)

    def compile(self, format: Any) -> Constraint:  # noqa: A002 - the API's name for it
        """``format``: "json" (any object) or a JSON schema. ConstraintError (400) if it cannot be obeyed."""
        if format == "json":
            format = {"type": "object"}  # noqa: A001
        if not isinstance(format, dict):
            raise ConstraintError(f'{format!r:.100}; expected "json" or a valid JSON Schema object')
        schema = prepare(format)
        return self._constraint("schema", schema)

    def compile_lark(self, lark: str) -> Constraint:
        """A grammar in llguidance's dialect of Lark."""
        if len(lark) > MAX_BYTES:
            raise ConstraintError(f"the grammar is larger than {MAX_BYTES // 1024} KiB")
        return self._constraint("lark", lark)

    def spell(self, text: str, tokenize: Callable[[str], list[int]]) -> list[str | int]:
        """``text`` for a grammar: tokens that are no text to it are numbers. What ends an answer is left out."""
        found: list[str | int] = []
        plain = b""
        for token in tokenize(text):
            piece = self._pieces(token)
            if not _spelled(piece, lib.llama_vocab_get_attr(self._vocab, token)).startswith(b"\xff"):
                plain += piece
            elif token not in self._eog:
                found += [plain.decode("utf-8", "ignore")] if plain else []
                found.append(token)
                plain = b""
        return [*found, plain.decode("utf-8", "ignore")] if plain else found

    def _constraint(self, kind: str, text: str) -> Constraint:
        key = hashlib.sha256(f"{kind}\n{text}".encode("utf-8", "surrogatepass")).digest()
        matcher = self._compiled.get(key)
        if matcher is None:
            matcher = self._compiled[key] = self._matcher(kind, text)
            if len(self._compiled) > CACHED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return Constraint(matcher.deep_copy(), self._mask, self._forbidden)

    def _matcher(self, kind: str, text: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits  # most workers never need it

        try:
            if kind == "lark":
                grammar = LLMatcher.grammar_from_lark(text)
            else:
                grammar = LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": WHITE_SPACE})
        except ValueError as error:
            raise ConstraintError(_reason(str(error))) from None
        if self._tokenizer is None:
            self._tokenizer = self._build()
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LLParserLimits(**LIMITS))
        if not matcher.is_error():
            matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.size)  # some limits only show here
            if not matcher.is_error() and not self._mask.any():
                raise ConstraintError(_reason("NoExtension"))
        if matcher.is_error():
            raise ConstraintError(_reason(matcher.get_error()))
        return matcher

    def _build(self) -> LLTokenizer:
        from llguidance import LLTokenizer

        attribute = lib.llama_vocab_get_attr
        tokens = [_spelled(self._pieces(token), attribute(self._vocab, token)) for token in range(self._n_vocab)]
        tokenize = ctypes.cast(lib._lib.llama_tokenize, ctypes.c_void_p).value
        return LLTokenizer.from_llamacpp(
            tokens=tokens, vocab_ptr=self._vocab, tokenize_fptr=tokenize, eos_token=list(self._eog), slices=None
        )


class Deferred:
    """A constraint that is compiled when it is first asked: most answers with tools call none.

    ``forgive``: told of a grammar that cannot be compiled; the constraint then allows everything.
    """

    def __init__(self, compile: Callable[[], Constraint], forgive: Callable[[str], None]) -> None:  # noqa: A002
        self._compile, self._forgive = compile, forgive
        self._made: Constraint | None = None
        self._void = False

    def _constraint(self) -> Constraint | None:
        if self._made is None and not self._void:
            try:
                self._made = self._compile()
            except ConstraintError as error:
                self._void = True
                self._forgive(str(error))
        return self._made

    def allows(self, *tokens: int) -> bool:
        made = self._constraint()
        return made is None or made.allows(*tokens)

    def mask(self, row: Row) -> None:
        if (made := self._constraint()) is not None:
            made.mask(row)

    def accept(self, *tokens: int) -> None:
        if (made := self._constraint()) is not None:
            made.accept(*tokens)

    def forced(self) -> list[int]:
        made = self._constraint()
        return made.forced() if made is not None else []

    @property
    def done(self) -> bool:
        made = self._constraint()
        return made is not None and made.done


def _spelled(piece: bytes, attribute: int) -> bytes:
    """A token's bytes as llguidance wants them: 0xFF before what is no text, so that no grammar matches it."""
    marker = attribute & USER_DEFINED and piece.startswith(b"<") and piece.endswith(b">")
    return b"\xff" + piece if attribute & NOT_TEXT or marker else piece


def _reason(error: str) -> str:
    """What the compiler's report says to a client: one line, without its internals."""
    if error.startswith("panic"):
        return "the grammar is too large"
    if error.startswith("NoExtension"):
        return "nothing can satisfy it"
    if error.startswith("oneOf constraints"):
        return 'the alternatives of a "oneOf" must exclude each other, for example by a "const"; else use "anyOf"'
    if error.startswith("Unable to determine if regex is empty"):
        return "its patterns, formats and length limits are too complex together"
    lines = [line.strip() for line in error.partition("\n<")[0].splitlines() if line.strip()]
    if not lines:
        return "the grammar cannot be compiled"
    detail = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
    return f"{lines[0]} {detail}".strip()[:300]


class Constraint:
    """Where one sequence stands in its grammar."""

    def __init__(self, matcher: LLMatcher, mask: NDArray[np.uint8], forbidden: NDArray[np.float32]) -> None:
        self._matcher, self._mask, self._forbidden = matcher, mask, forbidden

    def allows(self, *tokens: int) -> bool:
        return bool(self._matcher.validate_tokens(list(tokens)) == len(tokens))

    def mask(self, row: Row) -> None:
        """Makes every token that may not come next impossible, in place."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.size)
        if self._matcher.is_error():
            raise self._failure()
        np.take(FORBID, self._mask, axis=0, out=self._forbidden, mode="clip")
        row += self._forbidden.reshape(-1)[: row.size]

    def accept(self, *tokens: int) -> None:
        if not self._matcher.consume_tokens(list(tokens)):
            raise self._failure()

    def forced(self) -> list[int]:
        """Tokens that are the only way on; may be empty though something is forced. ``accept`` them too."""
        return list(self._matcher.compute_ff_tokens())

    @property
    def done(self) -> bool:
        """The text is complete and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def _failure(self) -> SamplingError:
        return SamplingError(f"the answer cannot follow its format any further: {_reason(self._matcher.get_error())}")
