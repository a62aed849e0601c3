"""The engine on a real (tiny, random) model: batching, prefixes, windows and ends never change the tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from server.types import Chunk, Final, Limits, LoadOptions, Logprob, Sampling
from server.worker.backends.llamacpp.context import Context
from server.worker.backends.llamacpp.model import Model
from server.worker.engine.engine import Engine
from server.worker.engine.sampling import Sampler
from server.worker.engine.sequence import Sequence

NANO = Path(__file__).parents[2] / "golden" / "models" / "nano.gguf"
WINDOW = 256


class Recorder:
    """An answer that keeps token ids."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.logprobs: list[Logprob] = []
        self.stop_sequence = ""

    thinking_tokens = 0

    def due(self) -> int:
        return -1

    def binding(self, token: int) -> list[int] | None:
        return [token]

    def feed(self, token: int, logprob: Logprob | None) -> list[Chunk]:
        self.tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        return [Chunk(content=str(token))]

    def finish(self) -> Chunk:
        return Chunk()


class House:
    """An engine over the nano model with what it emitted."""

    def __init__(self, model: Model, sequences: int = 4) -> None:
        options = LoadOptions(num_batch=128, kv_cache_type="f32", flash_attention=False)
        self.model = model
        self.context = Context(model, options, window=WINDOW, sequences=sequences, threads=1)
        self.finals: dict[int, Final] = {}
        self.failures: dict[int, str] = {}
        self.frames: list[list[int]] = []
        self.engine = Engine(
            self.context,
            eog=model.vocabulary.eog,
            piece=model.vocabulary.piece,
            emit=self._emit,
            fail=self.failures.__setitem__,
            snapshot_budget=1 << 24,
        )
        self._ids = 0

    def _emit(self, chunks: list[tuple[int, Chunk]]) -> None:
        self.frames.append([i for i, _ in chunks])
        self.finals.update({i: chunk.final for i, chunk in chunks if chunk.final})

    def submit(self, prompt: list[int], predict: int = 12, **options: object) -> Sequence:
        self._ids += 1
        limits = Limits(num_predict=predict, shift=bool(options.pop("shift", True)))
        top = int(str(options.pop("top", -1)))
        sampling = Sampling(**{"temperature": 0.0, "ignore_eos": True, **options})  # type: ignore[arg-type]
        vocabulary = self.model.vocabulary
        sampler = Sampler(sampling, vocabulary.n_vocab, vocabulary.eog, prompt, vocabulary.piece)
        sequence = Sequence(
            self._ids, prompt, limits, sampler, Recorder(), window=WINDOW, top_logprobs=top, want_context=True, keep=4
        )
        self.engine.submit(sequence)
        return sequence

    def finish(self) -> None:
        for _ in range(5000):
            if not self.engine.busy:
                return
            self.engine.step()
        raise AssertionError("the engine does not come to an end")

    def run(self, prompt: list[int], predict: int = 12, **options: object) -> list[int]:
        sequence = self.submit(prompt, predict, **options)
        self.finish()
        return tokens(sequence)


def tokens(sequence: Sequence) -> list[int]:
    assert isinstance(sequence.answer, Recorder)
    return sequence.answer.tokens


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = Model(str(NANO), LoadOptions())
    yield model
    model.close()


@pytest.fixture
def house(model: Model) -> Iterator[House]:
    house = House(model)
    yield house
    house.context.close()


def prompt(seed: int, size: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 480, size)]


@pytest.fixture(scope="module")
def solo(model: Model) -> Callable[[list[int], int], list[int]]:
    """What the model says alone, in a fresh context."""

    def run(text: list[int], predict: int = 12) -> list[int]:
        house = House(model, sequences=1)
        try:
            return house.run(text, predict)
        finally:
            house.context.close()

    return run


def test_neighbours_do_not_change_a_greedy_answer(house: House, solo: Callable[..., list[int]]) -> None:
    prompts = [prompt(seed, size) for seed, size in enumerate((3, 40, 90, 17, 120, 8, 61))]
    sequences = [house.submit(p) for p in prompts]  # more than there are slots
    house.finish()
    assert [tokens(s) for s in sequences] == [solo(p) for p in prompts]


def test_one_frame_carries_the_tokens_of_all_sequences(house: House) -> None:
    for seed in range(3):
        house.submit(prompt(seed, 10), 8)
    house.finish()
    assert max(len(set(frame)) for frame in house.frames) == 3
    assert len(house.frames) < 16


def test_a_repeated_prompt_is_not_computed_again(house: House, solo: Callable[..., list[int]]) -> None:
    text = prompt(1, 100)
    first, second = house.run(text), house.run(text)
    assert first == second == solo(text)
    assert house.finals[1].cached_tokens == 0
    assert house.finals[2].cached_tokens == 99


def test_a_running_sequence_shares_its_prefix(house: House, solo: Callable[..., list[int]]) -> None:
    shared = prompt(2, 100)
    texts = [shared + prompt(seed, 9) for seed in (11, 12, 13)]
    sequences = [house.submit(t, 20) for t in texts]
    house.finish()
    assert [tokens(s) for s in sequences] == [solo(t, 20) for t in texts]
    assert [house.finals[s.id].cached_tokens for s in sequences] == [0, 100, 100]


def test_an_evicted_prefix_comes_back_from_host_memory(house: House, solo: Callable[..., list[int]]) -> None:
    text = prompt(3, 100)
    house.run(text)
    for seed in range(20, 28):
        house.run(prompt(seed, 60))
    assert len(house.engine.cells.snapshots) > 0
    again = house.submit(text)
    house.finish()
    assert tokens(again) == solo(text)
    assert house.finals[again.id].cached_tokens == 99


def test_harvested_prefixes_serve_a_new_engine(model: Model, house: House, solo: Callable[..., list[int]]) -> None:
    text = prompt(4, 80)
    house.run(text)
    other = House(model)
    other.engine.cells.adopt(house.engine.cells.harvest())
    assert other.run(text) == solo(text)
    assert other.finals[1].cached_tokens == 79
    other.context.close()


def test_a_sampled_answer_depends_on_its_seed_alone(model: Model) -> None:
    text = prompt(5, 30)
    answers = []
    for seed in (7, 7, 8):
        house = House(model, sequences=2)
        other = house.submit(text[:10], 16, seed=99, temperature=1.5)  # its draws must not touch ours
        mine = house.submit(text, 16, seed=seed, temperature=1.5, top_k=0, top_p=1.0)
        house.finish()
        answers.append(tokens(mine))
        assert len(tokens(other)) == 16
        house.context.close()
    assert answers[0] == answers[1] != answers[2]


def test_a_full_window_slides_or_ends(house: House) -> None:
    slid = house.submit(prompt(6, 200), 200, temperature=2.0, seed=1)
    stays = house.submit(prompt(7, 200), 200, shift=False, temperature=2.0, seed=2)
    house.finish()
    assert house.finals[slid.id].reason == "length"
    assert house.finals[slid.id].output_tokens == 200
    assert house.finals[slid.id].shifted > 0
    assert house.finals[stays.id].output_tokens == WINDOW - 200 + 1
    assert house.finals[stays.id].shifted == 0


def test_abort_frees_the_slot_and_keeps_the_prefix(house: House, solo: Callable[..., list[int]]) -> None:
    text = prompt(8, 100)
    sequence = house.submit(text, 1000)
    for _ in range(5):
        house.engine.step()
    house.engine.abort(sequence.id)
    assert not house.engine.busy
    assert house.run(text) == solo(text)
    assert house.finals[2].cached_tokens == 99


def test_waiting_sequences_can_be_aborted(house: House) -> None:
    sequences = [house.submit(prompt(seed, 20), 50) for seed in range(6)]
    house.engine.step()
    house.engine.abort(sequences[5].id)
    house.finish()
    assert sequences[5].id not in house.finals
    assert len(house.finals) == 5


def test_busy_slots_are_kept_consecutive(house: House, solo: Callable[..., list[int]]) -> None:
    texts = [prompt(seed, 50) for seed in range(30, 34)]
    sequences = [house.submit(t, 30 if i in (0, 2, 3) else 3) for i, t in enumerate(texts)]
    for _ in range(12):
        house.engine.step()
    busy = sorted(s.slot for s in house.engine.running)
    assert busy == list(range(busy[0], busy[0] + 3))
    house.finish()
    assert [tokens(s) for s in sequences] == [solo(t, 30 if i in (0, 2, 3) else 3) for i, t in enumerate(texts)]


def test_logprobs_are_of_the_unmodified_distribution(house: House) -> None:
    plain = house.submit(prompt(9, 12), 4, top=2)
    biased = house.submit(prompt(9, 12), 4, top=2, repeat_penalty=3.0, repeat_last_n=-1)
    house.finish()
    assert isinstance(plain.answer, Recorder)
    assert isinstance(biased.answer, Recorder)
    assert plain.answer.logprobs[0].top == biased.answer.logprobs[0].top
    assert plain.answer.logprobs[0].top[0].logprob == plain.answer.logprobs[0].logprob


def test_a_loop_of_one_token_comes_to_an_end(house: House) -> None:
    token = 21
    sequence = house.submit(prompt(10, 5), -1, logit_bias={token: 1000.0})
    house.finish()
    assert set(tokens(sequence)) == {token}
    assert house.finals[sequence.id].reason == "length"
    assert len(tokens(sequence)) <= 32


def test_the_logits_are_those_of_the_models_own_forward_pass(model: Model, house: House) -> None:
    text = prompt(11, 90)
    house.submit(text[:60], 1)
    house.finish()
    house.submit(text, 1, top=20)
    sequence = house.submit(text, 1, top=20)
    house.finish()
    assert isinstance(sequence.answer, Recorder)
    alone = House(model, sequences=1)
    reference = alone.submit(text, 1, top=20)
    alone.finish()
    assert isinstance(reference.answer, Recorder)
    ours = {t.bytes: t.logprob for t in sequence.answer.logprobs[0].top}
    theirs = {t.bytes: t.logprob for t in reference.answer.logprobs[0].top}
    assert ours == pytest.approx(theirs, abs=2e-3)
    alone.context.close()


def test_the_engine_moves_to_a_larger_context_in_full_run(model: Model, solo: Callable[..., list[int]]) -> None:
    small, large = House(model, sequences=2), House(model, sequences=4)
    kept = prompt(40, 80)
    small.run(kept)
    texts = [prompt(seed, 50) for seed in (41, 42, 43)]
    sequences = [small.submit(t, 30) for t in texts]
    for _ in range(6):
        small.engine.step()
    assert len(small.engine.running) == 2
    small.engine.move_to(large.context)
    small.context.close()
    small.finish()
    assert [tokens(s) for s in sequences] == [solo(t, 30) for t in texts]
    assert len(small.engine.cells.slots) == 4
    again = small.submit(kept)
    small.finish()
    assert small.finals[again.id].cached_tokens == 79
    large.context.close()
