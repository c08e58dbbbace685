"""Fine-tune the encoder on labelled texts: resumable, and the same run for the same seed and step count.

One step sees a batch of texts of like length; each text trains the heads that its source has labels
for. Sentences of ours say everything and are repeated most; noisy sources are thinned out (`REPEATS`).
Embeddings stay frozen, so that languages with little data keep the places that pretraining gave them.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from models import augment, backbone, corpus
from models.backbone import PAD
from models.classifier import TOPICS, ModelError
from models.corpus import Row
from models.encoder import Encoder, from_packed

HEADS: Final = {"sentiment": 3, "topics": len(TOPICS), "urgency": 1}
# How often an epoch shows a row of each source, on average: by how clean and how near to feedback it is.
REPEATS: Final[Mapping[str, float]] = {
    corpus.OWN: 7,
    "xlm-t": 3,
    "rusentitweet": 1.6,
    "uz-app": 4,
    "uz-uzum": 3,
    "uz-app-mt": 0.5,
    "uz-intensity": 0.15,
    "germeval": 0.6,
    "tweeteval": 0.8,
    "afrisenti": 0.3,
    "bitext": 0.08,
    "banking77": 0.3,
    "mams": 0.4,
}
MAX_TOKENS: Final = 48
_BUCKET_BATCHES: Final = 40
_IGNORE: Final = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One training run. `minutes`, when given, ends the run early and lets the learning rate follow
    the clock, at the price of repeatability. `start_from`: a checkpoint whose weights to begin with.
    `frozen_layers`: how many of the lowest stay as they are (each saves an eighth of a step)."""

    steps: int = 8_000
    batch: int = 32
    rate: float = 2e-4
    head_rate: float = 1.5e-3
    warmup: int = 80
    layers: Sequence[int] = tuple(range(6))
    frozen_layers: int = 0
    seed: int = 1
    threads: int = 2
    minutes: float | None = None
    start_from: Path | None = None
    save_every: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is. `loss` is the mean since the last report; `rate` in texts a second."""

    step: int
    steps: int
    loss: float
    rate: float


def epoch(rows: Sequence[Row], seed: int, number: int) -> list[Row]:
    """The rows of one pass, repeated, varied and shuffled: the same for the same seed and number."""
    chance = random.Random(f"{seed}/{number}")
    shown: list[Row] = []
    for row in rows:
        times = REPEATS.get(row.source, 1.0)
        whole = int(times) + (chance.random() < times - int(times))
        shown.extend(augment.vary(row, chance) for _ in range(whole))
    chance.shuffle(shown)
    return shown


def batches(rows: Sequence[Row], size: int, seed: int) -> Iterator[list[Row]]:
    """Endless batches of texts of like length."""
    number = 0
    while True:
        shown, chance = epoch(rows, seed, number), random.Random(f"{seed}/{number}/batches")
        number += 1
        for start in range(0, len(shown), size * _BUCKET_BATCHES):
            bucket = sorted(shown[start : start + size * _BUCKET_BATCHES], key=lambda row: len(row.text))
            cut = [bucket[i : i + size] for i in range(0, len(bucket), size)]
            chance.shuffle(cut)
            yield from cut


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Ids, int64 [texts, longest], padded on the right with PAD."""
    pieces = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    longest = max(map(len, pieces))
    return torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in pieces])


def loss_of(outputs: Mapping[str, Tensor], rows: Sequence[Row]) -> Tensor:
    """The mean over rows of the losses of the heads that each row has labels for.

    Topics: binary cross-entropy makes each a probability of its own, cross-entropy across them ranks
    them. A text with no urgency label counts as not urgent with a weight of 0.02.
    """
    sentiment = torch.tensor([_IGNORE if row.sentiment is None else row.sentiment for row in rows])
    total = functional.cross_entropy(
        outputs["sentiment"], sentiment, ignore_index=_IGNORE, label_smoothing=0.05, reduction="sum"
    )
    known = [i for i, row in enumerate(rows) if row.topics is not None]
    if known:
        target = torch.tensor([[float(topic in (rows[i].topics or ())) for topic in TOPICS] for i in known])
        logits = outputs["topics"][known]
        total = total + functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        total = total + functional.cross_entropy(logits, target / target.sum(1, keepdim=True), reduction="sum")
    urgent = torch.tensor([float(bool(row.urgent)) for row in rows])
    weight = torch.tensor([0.02 if row.urgent is None else 1.0 for row in rows])
    total = total + functional.binary_cross_entropy_with_logits(
        outputs["urgency"][:, 0], urgent, weight=weight, reduction="sum"
    )
    return total / len(rows)


def fit(
    rows: Sequence[Row],
    *,
    keep: Sequence[int],
    checkpoint: Path,
    settings: Settings,
    report: Callable[[Progress], None] = lambda _: None,
) -> Encoder:
    """Train on `rows` over the pieces `keep`; goes on from `checkpoint` when it exists, and writes it.

    ModelError when the checkpoint was made with other settings.
    """
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    torch.set_flush_denormal(True)
    packed = backbone.read_packed(backbone.packed_path())
    tokenizer = backbone.tokenizer(packed, keep)
    tokenizer.enable_truncation(MAX_TOKENS)
    model = from_packed(packed, keep=keep, layers=settings.layers, heads=HEADS)
    model.words.weight.requires_grad = False
    if settings.frozen_layers:
        for module in (model.positions, model.norm, *model.layers[: settings.frozen_layers]):
            module.requires_grad_(False)
    body = [p for name, p in model.named_parameters() if p.requires_grad and not name.startswith("heads")]
    optimizer = torch.optim.AdamW(
        [{"params": body}, {"params": list(model.heads.parameters())}], weight_decay=0.01, fused=True
    )
    first = 0
    if checkpoint.exists():
        first = _restore(checkpoint, model, optimizer, settings)
    elif settings.start_from:
        model.load_state_dict(torch.load(settings.start_from, weights_only=True)["model"])
    model.train()
    stream = batches(rows, settings.batch, settings.seed)
    for _ in range(first):
        next(stream)
    started, reported, losses, texts = time.monotonic(), time.monotonic(), [], 0
    for step in range(first, settings.steps):
        done = step / settings.steps
        if settings.minutes:
            done = max(done, (time.monotonic() - started) / (60 * settings.minutes))
        if done >= 1:
            break
        batch = next(stream)
        for group, rate in zip(optimizer.param_groups, (settings.rate, settings.head_rate), strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / settings.warmup) * max(0.01, 1 - done)
        loss = loss_of(model(encode(tokenizer, [row.text for row in batch])), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        texts += len(batch)
        if (step + 1) % settings.save_every == 0:
            _save(checkpoint, model, optimizer, settings, step + 1)
            now = time.monotonic()
            report(
                Progress(
                    step=step + 1,
                    steps=settings.steps,
                    loss=sum(losses) / len(losses),
                    rate=texts / (now - reported),
                )
            )
            reported, losses, texts = now, [], 0
    _save(checkpoint, model, optimizer, settings, settings.steps)
    model.eval()
    return model


def _signature(settings: Settings) -> str:
    return (
        f"steps {settings.steps}, batch {settings.batch}, seed {settings.seed}, "
        f"layers {tuple(settings.layers)}, frozen {settings.frozen_layers}, rates {settings.rate} {settings.head_rate}"
    )


def _save(path: Path, model: Encoder, optimizer: Any, settings: Settings, step: int) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "signature": _signature(settings),
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def _restore(path: Path, model: Encoder, optimizer: Any, settings: Settings) -> int:
    state = torch.load(path, weights_only=True)
    if state["signature"] != _signature(settings):
        raise ModelError(
            f"{path} belongs to another run ({state['signature']}); this one has {_signature(settings)}: "
            "give the same settings to go on, or another folder to begin anew"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
