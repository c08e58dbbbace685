"""`python -m benchmarks.model [--quick]`: the shipped model's speed, start, memory and int8 agreement.

Texts are our own labelled sentences, some joined into longer ones, so that lengths spread as in reviews
and tweets (28 pieces on average). The same encoder in fp32 runs in the same minute, one text at a time,
through the pipeline of transformers. Exit status 1 when an aim is missed; the last line is the verdict.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from models import artifact, corpus, export, graph, reading
from models.onnx import OnnxClassifier

THREADS = 2
_START = """
import sys, time
started = time.perf_counter()
from models.load import load
classifier = load(threads=2)
classifier.classify(["Where is my parcel?"])
first = time.perf_counter() - started
for _ in range(4):
    classifier.classify(sys.stdin.read().split(chr(10)) or ["a"] * 1000)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(first, int(peak.split()[1]) / 1024)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """One number, what it should be, and whether more of it is better."""

    name: str
    value: float
    aim: float
    more: bool = True

    @property
    def met(self) -> bool:
        return self.value >= self.aim if self.more else self.value <= self.aim


def texts(count: int) -> list[str]:
    """`count` texts of one to three sentences, the same each time."""
    folder = Path(corpus.__file__).parent / "sentences"
    rows = [*corpus.sentences(folder / "train"), *corpus.sentences(folder / "validation")]
    chance = random.Random(0)
    by_language: dict[str, list[str]] = {}
    for row in rows:
        by_language.setdefault(row.language, []).append(row.text)
    languages = sorted(by_language)
    return [
        " ".join(chance.choices(by_language[chance.choice(languages)], k=chance.choice((1, 1, 2, 3))))
        for _ in range(count)
    ]


def rate(run: Callable[[Sequence[str]], object], sample: Sequence[str], repeats: int) -> float:
    """Median texts a second over `repeats` runs, after one to warm up on a tenth."""
    run(sample[: max(1, len(sample) // 10)])
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        run(sample)
        rates.append(len(sample) / (time.perf_counter() - started))
    return statistics.median(rates)


def start_and_memory(sample: Sequence[str]) -> tuple[float, float]:
    """Seconds from import to the first score in a fresh process, and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", _START],
        input="\n".join(sample),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(corpus.__file__).parents[1],
    )
    first, memory = done.stdout.split()
    return float(first), float(memory)


def agreement(
    parameters: dict[str, Any], halvings: Sequence[int], ids: Sequence[Sequence[int]], served: OnnxClassifier
) -> float:
    """Share of texts whose sentiment is the same with fp32 activations and the shipped weights."""
    heads = {"sentiment": 3}
    exact = graph.build(parameters, heads=heads, halvings=halvings, ranges=None).SerializeToString()
    session = onnxruntime.InferenceSession(exact, providers=["CPUExecutionProvider"])
    small = served.logits(ids)["sentiment"].argmax(1)
    same = [
        int(session.run(["sentiment"], {"ids": export.padded([pieces])})[0].argmax()) == small[i]
        for i, pieces in enumerate(ids)
    ]
    return float(np.mean(same))


def pipeline(parameters: dict[str, Any], layers: int) -> Callable[[Sequence[str]], object]:
    """The same encoder as a user of transformers would run it: torch fp32, `pipeline`, batch 1."""
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    config = transformers.BertConfig(
        vocab_size=len(parameters["words.weight"]),
        hidden_size=384,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=3,
        pad_token_id=1,
    )
    network = transformers.BertForSequenceClassification(config).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(artifact.SHIPPED / artifact.TOKENIZER), pad_token="<pad>", model_max_length=128
    )
    run = transformers.pipeline("text-classification", model=network, tokenizer=tokenizer, device="cpu")
    return lambda sample: run(list(sample), batch_size=1, truncation=True)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the texts: rough numbers in half a minute")
    quick = parser.parse_args().quick
    sample = texts(400 if quick else 4_000)
    served = OnnxClassifier(threads=THREADS)
    weights = onnx.load(artifact.SHIPPED / artifact.WEIGHTS)
    parameters, halvings = graph.parameters_of(weights), graph.halvings_of(weights)
    layers = 1 + max(int(name.split(".")[1]) for name in parameters if name.startswith("layers."))
    ids = [item.ids for item in reading.Reader(artifact.SHIPPED, export.MAX_TOKENS).read(sample)]
    print(f"{served.model}, {layers} layers; {len(sample)} texts of {np.mean([len(i) for i in ids]):.1f} pieces")
    speed = rate(served.classify, sample, 1 if quick else 3)
    slow = rate(pipeline(parameters, layers), sample[: len(sample) // 10], 1)
    first, memory = start_and_memory(sample)
    same = 100 * agreement(parameters, halvings, ids, served)
    aims = (
        Aim(name=f"texts/s on {THREADS} threads, tokenizer included", value=speed, aim=2_000),
        Aim(name="times the torch fp32 pipeline at batch 1", value=speed / slow, aim=20),
        Aim(name="int8 says what fp32 activations say, %", value=same, aim=98.5),
        Aim(name="start to first score, s", value=first, aim=1.5, more=False),
        Aim(name="peak memory, MB", value=memory, aim=350, more=False),
    )
    for aim in aims:
        sign = "at least" if aim.more else "at most"
        print(f"{'ok  ' if aim.met else 'MISS'}  {aim.name}: {aim.value:,.1f} (aim: {sign} {aim.aim:,g})")
    missed = [aim.name for aim in aims if not aim.met]
    print(f"missed: {'; '.join(missed)}" if missed else "every aim is met")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
