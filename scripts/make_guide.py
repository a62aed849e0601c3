"""Makes the built-in model: writes its corpus, trains it on the CPU, exports and measures it.

    python scripts/make_guide.py              the whole thing, under 45 minutes on 2 quiet cores, however slow
    python scripts/make_guide.py --quick      a small one in a few minutes, to try the machinery

Needs the `train` extra (torch, tokenizers, gguf). An interrupted run goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from guide import corpus, vocabulary
from guide.batches import encode
from guide.checks import check_logits, check_tokens
from guide.export import export
from guide.model import Guide, Shape
from guide.prompt import segments
from guide.train import Plan, train

ROOT = Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "modelfiles/guide/guide.gguf")
    parser.add_argument("--work", type=Path, default=ROOT / "build/guide", help="checkpoints and the tokenizer")
    parser.add_argument("--minutes", type=float, default=40, help="end the training after so many minutes, 0 for never")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the corpus")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    start = time.monotonic()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    talks = corpus.training(options.seed, 0.15 if options.quick else 1.0)
    print(f"corpus: {len(talks)} conversations, {corpus.census(talks)}", flush=True)
    kept = options.work / "tokenizer.json"
    if kept.exists():
        tokenizer = vocabulary.load(kept)
    else:
        texts = ["".join(text for text, _ in segments(talk)) for talk in talks]
        tokenizer = vocabulary.train(texts, corpus.copied_words())
        tokenizer.save(str(kept))
    examples = encode(tokenizer, talks)
    total = sum(len(example.tokens) for example in examples)
    learned = sum(sum(example.learn) for example in examples)
    print(
        f"{total / 1e6:.2f} M tokens, {learned / 1e6:.2f} M of them learned, {time.monotonic() - start:.0f} s",
        flush=True,
    )
    plan = Plan(
        Shape(), examples, tokenizer, options.work, options.seed, minutes=options.minutes, workers=options.workers
    )
    model: Guide = train(plan)
    print(f"logits differ from llama.cpp's by {check_logits(model, tokenizer, options.work):.1e}", flush=True)
    export(model, tokenizer, options.out)
    check_tokens(tokenizer, options.out)
    print(
        f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB after {time.monotonic() - start:.0f} s", flush=True
    )


if __name__ == "__main__":
    main()
