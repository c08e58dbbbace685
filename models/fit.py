"""Fine-tune the encoder on labelled texts: resumable, and the same run for the same seed and step count.

One step sees a batch of texts of like length; each text trains the heads that its source has labels
for. Sentences of ours say everything and are repeated most; noisy sources are thinned out (`REPEATS`).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models import augment, backbone, corpus
from models.backbone import PAD, Packed
from models.classifier import TOPICS, ModelError
from models.corpus import Row
from models.distil import Lessons
from models.encoder import Encoder, from_packed
from models.replicas import Replicas

ALL_LAYERS: Final = tuple(range(12))
ALL_INNER: Final = 1_536
LAYERS: Final = tuple(range(6))
INNER: Final = 1_152
HALVINGS: Final = (2,)
HEADS: Final = {"sentiment": 3, "topics": len(TOPICS), "urgency": 1}
# How often an epoch shows a row of each source, on average: by how clean and how near to feedback it is.
REPEATS: Final[Mapping[str, float]] = {
    corpus.OWN: 5,
    corpus.OWN_POST: 3,
    "xlm-t": 1.7,
    "rusentitweet": 1.1,
    "uz-app": 5,
    "uz-uzum": 2.5,
    "uz-app-mt": 1,
    "uz-intensity": 0.08,
    "germeval": 0.4,
    "tweeteval": 0.7,
    "afrisenti": 0.2,
    "bitext": 0.06,
    "banking77": 0.2,
    "mams": 0.3,
}
MAX_TOKENS: Final = 64
TEACHER, LESSONS, STUDENT = "teacher", "lessons", "student"
_BUCKET_BATCHES: Final = 40
_JOINED: Final = 0.15
_DROPPED: Final = 0.08
_SEED_STEP: Final = 1_000
_JUDGED: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One training run.

    `rate`: of the uppermost layer; each one below learns at `decay` times the rate of the one above.
    `teachers`: how many networks of all layers learn first, each of them `teacher` steps, whose thoughts this network
    then learns, too; 0: none. `letters`: what part of those thoughts is of a bag of character n-grams
    (`train_tfidf.opinions`).
    `minutes`, when given, ends the run early and lets the learning rate follow the clock, at the price of
    repeatability; half of them are the teachers'. `layers`: which of the backbone's layers are taken,
    `inner`: how many of the 1,536 units between a layer's two wide products, and
    `halvings`: before which of them neighbouring tokens become one, from `halve_from` (a share of the run) on;
    from `round_from` on, products read what int8 will leave them.
    """

    steps: int = 10_000
    teacher: int = 3_000
    teachers: int = 2
    letters: float = 0.3
    batch: int = 32
    rate: float = 2.5e-4
    decay: float = 0.92
    head_rate: float = 1.5e-3
    word_rate: float = 2.5e-4
    warmup: int = 100
    layers: Sequence[int] = LAYERS
    inner: int = INNER
    halvings: Sequence[int] = HALVINGS
    halve_from: float = 0.1
    round_from: float = 0.75
    seed: int = 1
    threads: int = 2
    minutes: float | None = None
    save_every: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is: `stage` is TEACHER, LESSONS (whose steps are texts), or STUDENT.

    `loss`: the mean since the last report, None where nothing is learned; `rate`: texts a second.
    """

    stage: str
    step: int
    steps: int
    loss: float | None
    rate: float


def of_teacher(settings: Settings, number: int) -> Settings:
    """Of one of the teachers, which differ by their seeds: all layers, every token, half the rate, since twice as
    many layers learn."""
    minutes = settings.minutes and settings.minutes / 2 / settings.teachers
    return replace(
        settings,
        steps=settings.teacher,
        teacher=0,
        teachers=0,
        seed=settings.seed + number * _SEED_STEP,
        rate=settings.rate / 2,
        layers=ALL_LAYERS,
        inner=ALL_INNER,
        halvings=(),
        round_from=1,
        minutes=minutes,
    )


def tokenizer(packed: Packed, keep: Sequence[int]) -> Tokenizer:
    """Cuts texts into the pieces `keep`, at most MAX_TOKENS."""
    built = backbone.tokenizer(packed, keep)
    built.enable_truncation(MAX_TOKENS)
    return built


def balance(rows: Sequence[Row]) -> dict[tuple[str, int], float]:
    """How much oftener a source's rarer sentiments are shown: the root of what would make them equal."""
    counts = Counter((row.source, row.sentiment) for row in rows if row.sentiment is not None)
    found = {}
    for source in {source for source, _ in counts}:
        own = {label: count for (name, label), count in counts.items() if name == source}
        mean = sum(own.values()) / len(own)
        for label, count in own.items():
            found[source, label] = min(2.0, (mean / count) ** 0.5)
    return found


def epoch(rows: Sequence[Row], seed: int, number: int) -> list[Row]:
    """The rows of one pass, repeated, joined, varied and shuffled: the same for the same seed and number."""
    chance = random.Random(f"{seed}/{number}")
    weights = balance(rows)
    alike: dict[tuple[str, int | None], list[Row]] = {}
    for row in rows:
        if row.source == corpus.OWN:
            alike.setdefault((row.language, row.sentiment), []).append(row)
    shown: list[Row] = []
    for row in rows:
        times = REPEATS.get(row.source, 1.0)
        if row.sentiment is not None and row.source != corpus.OWN:
            times *= weights[row.source, row.sentiment]
        for _ in range(int(times) + (chance.random() < times - int(times))):
            one = row
            if row.source == corpus.OWN and chance.random() < _JOINED:
                one = augment.join(row, chance.choice(alike[row.language, row.sentiment]))
            shown.append(augment.vary(one, chance))
    chance.shuffle(shown)
    return shown


def batches(rows: Sequence[Row], size: int, seed: int) -> Iterator[list[Row]]:
    """Endless batches of `size` texts of like length; what is left of an epoch begins the next."""
    left: list[Row] = []
    number = 0
    while True:
        shown, chance = left + epoch(rows, seed, number), random.Random(f"{seed}/{number}/batches")
        number += 1
        whole = len(shown) // size * size
        shown, left = shown[:whole], shown[whole:]
        for start in range(0, whole, size * _BUCKET_BATCHES):
            bucket = sorted(shown[start : start + size * _BUCKET_BATCHES], key=lambda row: len(row.text))
            cut = [bucket[i : i + size] for i in range(0, len(bucket), size)]
            chance.shuffle(cut)
            yield from cut


def encode(cut: Tokenizer, texts: Sequence[str], chance: random.Random | None = None) -> Tensor:
    """Ids, int64 [texts, longest], padded on the right with PAD; with `chance`, some pieces are left out."""
    pieces = [encoding.ids for encoding in cut.encode_batch_fast(list(texts))]
    if chance:
        pieces = [
            [ids[0], *(i for i in ids[1:-1] if chance.random() >= _DROPPED), ids[-1]] if len(ids) > 6 else ids
            for ids in pieces
        ]
    longest = max(map(len, pieces))
    return torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in pieces])


def fit(
    rows: Sequence[Row],
    *,
    keep: Sequence[int],
    checkpoint: Path,
    settings: Settings,
    teacher: Encoder | None = None,
    lessons: Lessons | None = None,
    stage: str = STUDENT,
    report: Callable[[Progress], None] = lambda _: None,
) -> Encoder:
    """Train on `rows` over the pieces `keep`; goes on from `checkpoint` when it exists, and writes it.

    `teacher`: a network of all the backbone's layers, of which this one begins with `settings.layers`; `lessons`:
    what it thinks of the rows, by their `lesson`. `stage`: what reports say. ModelError when the checkpoint was
    made with other settings.
    """
    torch.manual_seed(settings.seed)
    torch.set_flush_denormal(True)
    packed = backbone.read_packed(backbone.packed_path())
    cut = tokenizer(packed, keep)
    model = from_packed(packed, keep=keep, layers=settings.layers, heads=HEADS)
    if teacher:
        model.begin_from(teacher, settings.layers)
    if settings.inner < ALL_INNER:
        some = rows[:: max(1, len(rows) // _JUDGED)]
        model.eval().narrow(settings.inner, encode(cut, [row.text for row in some]))
    model.words.weight.requires_grad = settings.word_rate > 0
    groups, rates = _groups(model, settings)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    first, before = 0, 0.0
    if checkpoint.exists():
        first, before = _restore(checkpoint, model, optimizer, settings)
    model.train()
    stream = batches(rows, settings.batch, settings.seed)
    for _ in range(first if first < settings.steps else 0):
        next(stream)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started, reported, losses, texts = time.monotonic() - before, time.monotonic(), [], 0
    with Replicas(model, settings.threads, lessons) as replicas:
        for step in range(first, settings.steps):
            done = step / settings.steps
            if settings.minutes:
                done = max(done, (time.monotonic() - started) / (60 * settings.minutes))
            if done >= 1:
                break
            if done >= settings.halve_from:
                replicas.halve(settings.halvings)
            if done >= settings.round_from:
                replicas.round_inputs()
            batch = next(stream)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, (step + 1) / settings.warmup) * max(0.01, 1 - done)
            ids = encode(cut, [row.text for row in batch], random.Random(f"{settings.seed}/{step}/pieces"))
            optimizer.zero_grad()
            losses.append(replicas.backward(ids, batch, settings.seed * settings.steps + step))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            texts += len(batch)
            if (step + 1) % settings.save_every == 0:
                now = time.monotonic()
                _save(checkpoint, model, optimizer, settings, step + 1, now - started)
                report(
                    Progress(
                        stage=stage,
                        step=step + 1,
                        steps=settings.steps,
                        loss=sum(losses) / len(losses),
                        rate=texts / (now - reported),
                    )
                )
                reported, losses, texts = now, [], 0
    _save(checkpoint, model, optimizer, settings, settings.steps, time.monotonic() - started)
    torch.set_num_threads(threads)
    model.halvings = tuple(settings.halvings)
    model.eval()
    return model


def _groups(model: Encoder, settings: Settings) -> tuple[list[dict[str, Any]], list[float]]:
    """Parameters for the optimizer and the rate of each group: heads, then layers from the top down."""
    groups: list[dict[str, Any]] = [{"params": list(model.heads.parameters())}]
    rates, rate = [settings.head_rate], settings.rate
    if settings.word_rate:  # no decay: pieces that no text shows keep their place
        groups.append({"params": [model.words.weight], "weight_decay": 0.0})
        rates.append(settings.word_rate)
    for layer in reversed(model.layers):
        groups.append({"params": list(layer.parameters())})
        rates.append(rate)
        rate *= settings.decay
    groups.append({"params": [*model.positions.parameters(), *model.norm.parameters()]})
    rates.append(rate)
    return groups, rates


def _signature(settings: Settings) -> str:
    return (
        f"steps {settings.steps}, teachers {settings.teachers} of {settings.teacher}, letters {settings.letters}, "
        f"batch {settings.batch}, seed {settings.seed}, "
        f"layers {tuple(settings.layers)} of {settings.inner} units, "
        f"halvings {tuple(settings.halvings)} from {settings.halve_from}, rounded from {settings.round_from}, "
        f"rates {settings.rate} {settings.decay} {settings.head_rate} {settings.word_rate}"
    )


def _save(path: Path, model: Encoder, optimizer: Any, settings: Settings, step: int, seconds: float) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
        "signature": _signature(settings),
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def _restore(path: Path, model: Encoder, optimizer: Any, settings: Settings) -> tuple[int, float]:
    state = torch.load(path, weights_only=True)
    if state["signature"] != _signature(settings):
        raise ModelError(
            f"{path} belongs to another run ({state['signature']}); this one has {_signature(settings)}: "
            "give the same settings to go on, or another folder to begin anew"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])
