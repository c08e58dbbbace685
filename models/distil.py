"""What a teacher, a larger network fitted on the same rows, thinks of them; and how far a student is from that.

The student learns the teacher's chances (Hinton et al. 2015, https://arxiv.org/abs/1503.02531) and its
pooled embedding: 384 numbers a text instead of the few bits of a label, and the same ones for every
variation of the text that the student is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from models import batching, export
from models.corpus import Row
from models.encoder import Encoder

TEMPERATURE: Final = 2.0
_LOGITS: Final = ("sentiment", "topics", "urgency")
_TOPICS_WEIGHT: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """fp16 [rows, …]: the teacher's logits by head and its embeddings; `spread`: mean squared distance of an
    embedding from their mean."""

    logits: Mapping[str, Tensor]
    embeddings: Tensor
    spread: float


def teach(
    model: Encoder,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    threads: int,
    report: Callable[[int], None] = lambda _: None,
) -> Lessons:
    """What it thinks of each row, in their order. `report` hears of how many rows the teacher has thought."""
    pieces = [encoding.ids for encoding in tokenizer.encode_batch_fast([row.text for row in rows])]
    found: dict[str, Tensor] = {}
    before, done = torch.get_num_threads(), 0
    torch.set_num_threads(threads)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for batch in batching.by_length([len(ids) for ids in pieces]):
            outputs = model(torch.from_numpy(export.padded([pieces[i] for i in batch])))
            for name, value in outputs.items():
                found.setdefault(name, torch.empty((len(rows), value.shape[1]), dtype=torch.float16))
                found[name][batch] = value.to(torch.float16)
            done += len(batch)
            report(done)
    torch.set_num_threads(before)
    embeddings = found["embedding"].float()
    spread = float(((embeddings - embeddings.mean(0)) ** 2).sum(1).mean())
    # Copies, since what was made in inference mode may not take part in training.
    return Lessons(
        logits={name: found[name].clone() for name in _LOGITS}, embeddings=found["embedding"].clone(), spread=spread
    )


def together(every: Sequence[Lessons]) -> Lessons:
    """What several teachers think on average; the embeddings are those of the first, with which the student begins."""
    logits = {name: torch.stack([one.logits[name].float() for one in every]).mean(0).half() for name in _LOGITS}
    return replace(every[0], logits=logits)


def with_opinions(lessons: Lessons, opinions: NDArray[np.float32], share: float) -> Lessons:
    """The lessons, of whose sentiment a part is someone else's: `opinions` are logits [rows, 3], NaN for none.

    The logarithms of both chances are averaged with the weights 1 - `share` and `share`.
    """
    theirs = torch.log_softmax(torch.from_numpy(opinions), 1)
    ours = torch.log_softmax(lessons.logits["sentiment"].float(), 1)
    mixed = torch.where(theirs.isnan(), ours, (1 - share) * ours + share * theirs)
    return replace(lessons, logits={**lessons.logits, "sentiment": mixed.half()})


def keep(path: Path, lessons: Lessons, mark: str) -> None:
    """Write what `kept` reads again."""
    part = path.with_suffix(".part")
    state = {"mark": mark, "logits": dict(lessons.logits), "embeddings": lessons.embeddings, "spread": lessons.spread}
    torch.save(state, part)
    part.replace(path)


def kept(path: Path, mark: str) -> Lessons | None:
    """The lessons of `path`, None when there are none, or of something else than `mark`."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    if state["mark"] != mark:
        return None
    return Lessons(logits=state["logits"], embeddings=state["embeddings"], spread=state["spread"])


def distance(outputs: Mapping[str, Tensor], numbers: Sequence[int | None], lessons: Lessons) -> Tensor:
    """The sum over rows of what parts a student's `outputs` from the lessons `numbers`; rows without one are free.

    Sentiment: the Kullback-Leibler divergence at TEMPERATURE, times its square; topics and urgency: the
    cross-entropy with the teacher's chances, less its own entropy; embedding: the squared distance, as a
    share of the spread of the teacher's.
    """
    taught = [i for i, number in enumerate(numbers) if number is not None]
    if not taught:
        return outputs["sentiment"].sum() * 0
    of = torch.tensor([number for number in numbers if number is not None])
    theirs = {name: values[of].float() for name, values in lessons.logits.items()}
    total = TEMPERATURE**2 * functional.kl_div(
        functional.log_softmax(outputs["sentiment"][taught] / TEMPERATURE, 1),
        functional.log_softmax(theirs["sentiment"] / TEMPERATURE, 1),
        log_target=True,
        reduction="sum",
    )
    for name in ("topics", "urgency"):
        chances = torch.sigmoid(theirs[name])
        cross = functional.binary_cross_entropy_with_logits(outputs[name][taught], chances, reduction="sum")
        own = functional.binary_cross_entropy_with_logits(theirs[name], chances, reduction="sum")
        total = total + _TOPICS_WEIGHT * (cross - own)
    apart = ((outputs["embedding"][taught] - lessons.embeddings[of].float()) ** 2).sum()
    return total + apart / lessons.spread
