"""One step of learning: the loss of a batch, shared out to copies of the network that work at the same time.

On a machine with other work, replicas of one thread each trained 6 times as fast as one network on two threads, whose
every product waits for the slower thread.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from models.classifier import TOPICS
from models.corpus import Row
from models.distil import Lessons, distance
from models.encoder import Encoder

_IGNORE: Final = -100


def loss_of(outputs: Mapping[str, Tensor], rows: Sequence[Row], lessons: Lessons | None = None) -> Tensor:
    """The mean over rows of the losses of the heads that each row has labels for.

    Topics: binary cross-entropy makes each a probability of its own, cross-entropy across them ranks
    them. A text with no urgency label counts as not urgent with a weight of 0.02. With `lessons`, as much
    again for what a teacher thought of the rows (`distil.distance`).
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
    if lessons:
        total = total + distance(outputs, [row.lesson for row in rows], lessons)
    return total / len(rows)


class Replicas:
    """Copies of a network that share its parameters: each takes its part of a batch, on its own thread."""

    def __init__(self, model: Encoder, count: int, lessons: Lessons | None = None) -> None:
        self._lessons = lessons
        self._models = [model]
        for _ in range(count - 1):
            copied = copy.deepcopy(model)
            for ours, theirs in zip(model.parameters(), copied.parameters(), strict=True):
                theirs.data = ours.data
            self._models.append(copied)
        self._pool = ThreadPoolExecutor(count, initializer=lambda: torch.set_num_threads(1))

    def __enter__(self) -> Replicas:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def halve(self, halvings: Sequence[int]) -> None:
        """Average neighbouring tokens before these layers from now on."""
        for model in self._models:
            model.halvings = tuple(halvings)

    def round_inputs(self) -> None:
        """See `Encoder.round_inputs`."""
        for model in self._models:
            model.round_inputs()

    def backward(self, ids: Tensor, rows: Sequence[Row], seed: int) -> float:
        """Leave the gradients of the batch's mean loss on the first network; the loss. `seed`: of dropout."""
        count = min(len(self._models), len(rows))
        for number, model in enumerate(self._models):
            model.draw_from(torch.Generator().manual_seed(seed * len(self._models) + number))
        jobs = [
            self._pool.submit(self._part, model, ids[number::count], rows[number::count], len(rows))
            for number, model in enumerate(self._models[:count])
        ]
        loss = sum(job.result() for job in jobs)
        for model in self._models[1:count]:
            for ours, theirs in zip(self._models[0].parameters(), model.parameters(), strict=True):
                if theirs.grad is not None:
                    ours.grad = theirs.grad if ours.grad is None else ours.grad.add_(theirs.grad)
                    theirs.grad = None
        return loss

    def _part(self, model: Encoder, ids: Tensor, rows: Sequence[Row], whole: int) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(ids)
        known = {name: value.float() for name, value in outputs.items()}
        loss = loss_of(known, rows, self._lessons) * (len(rows) / whole)
        loss.backward()
        return float(loss.detach())
