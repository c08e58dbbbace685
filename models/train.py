"""Labelled texts → a served model with its card: split, fit, calibrate, quantise, fit the baseline, evaluate, seal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from models import (
    artifact,
    backbone,
    batching,
    calibration,
    card,
    corpus,
    distil,
    evaluate,
    export,
    fit,
    labelled,
    train_tfidf,
    vocabulary,
)
from models.backbone import Array
from models.classifier import TOPICS, UNKNOWN_LANGUAGE
from models.corpus import Row
from models.encoder import Encoder
from models.fit import HEADS, Progress, Settings
from models.onnx import OnnxClassifier, softmax
from models.reading import Reader
from models.tfidf import Tfidf

SENTENCES: Final = Path(__file__).parent / "sentences"
NAME: Final = "ovoz-e5"
VALIDATION_PERCENT: Final = 4
TEST_PERCENT: Final = 4
_RANGE_TEXTS: Final = 600
_COMPARED_TEXTS: Final = 2_000
_CLEAN: Final = 0.1


def train(
    data: Sequence[Path],
    out: Path,
    *,
    settings: Settings | None = None,
    sentences: Path = SENTENCES,
    name: str = NAME,
    report: Callable[[Progress], None] = lambda _: None,
) -> evaluate.Report:
    """Train on the labelled files of `data` and our own sentences; write the artifact to `out`.

    Teachers of all the backbone's layers first, then the network that is served (`fit.Settings`). Goes on from
    `checkpoints` when they are there, and the settings are the same. ModelError as in `fit` and `labelled`.
    """
    settings = settings or Settings()
    packed = backbone.read_packed(backbone.packed_path())
    keep = vocabulary.of_tokenizer(packed, artifact.SHIPPED / artifact.TOKENIZER)
    learned, validation, test = splits(data, sentences)
    out.parent.mkdir(parents=True, exist_ok=True)
    teacher, lessons, rows = None, None, learned
    if settings.teachers:
        teacher, lessons = _taught(learned, keep, out, settings, report)
        rows = [replace(row, lesson=number) for number, row in enumerate(learned)]
        settings = replace(settings, minutes=settings.minutes and settings.minutes / 2)
    student = checkpoints(out, settings.teachers)[-1]
    model = fit.fit(
        rows, keep=keep, checkpoint=student, settings=settings, teacher=teacher, lessons=lessons, report=report
    )
    run = f"up to {settings.steps:,} steps of {settings.batch} texts, rate {settings.rate:g}, seed {settings.seed}"
    if settings.teachers:
        run += (
            f", taught by {settings.teachers} networks of all {packed.config['layers']} layers after "
            f"{settings.teacher:,} such steps of their own, and by character n-grams"
        )
    return finish(model, learned, validation, test, keep=keep, out=out, name=name, run=run)


def _taught(
    rows: Sequence[Row], keep: Sequence[int], out: Path, settings: Settings, report: Callable[[Progress], None]
) -> tuple[Encoder, distil.Lessons]:
    """The first teacher, and what all of them and the n-grams of letters think of the rows."""
    cut = fit.tokenizer(backbone.read_packed(backbone.packed_path()), keep)
    paths = checkpoints(out, settings.teachers)
    mark = corpus.digest(rows)
    teachers, lessons = [], []
    for number in range(settings.teachers):
        chosen, (checkpoint, thoughts) = fit.of_teacher(settings, number), paths[2 * number : 2 * number + 2]
        stage = f"{fit.TEACHER} {number + 1}"
        teacher = fit.fit(rows, keep=keep, checkpoint=checkpoint, settings=chosen, stage=stage, report=report)
        known = distil.kept(thoughts, f"{mark} {chosen.seed} {chosen.steps}")
        if known is None:
            known = distil.teach(teacher, cut, rows, settings.threads, _asked(len(rows), report))
            distil.keep(thoughts, known, f"{mark} {chosen.seed} {chosen.steps}")
        teachers.append(teacher)
        lessons.append(known)
    opinions = train_tfidf.opinions(rows, settings.threads)
    return teachers[0], distil.with_opinions(distil.together(lessons), opinions, settings.letters)


def _asked(texts: int, report: Callable[[Progress], None]) -> Callable[[int], None]:
    """Tells of every twentieth of the texts that a teacher has thought of."""
    started, told = time.monotonic(), 0

    def heard(done: int) -> None:
        nonlocal told
        if done - told >= texts / 20 or done == texts:
            told = done
            rate = done / max(1e-9, time.monotonic() - started)
            report(Progress(stage=fit.LESSONS, step=done, steps=texts, loss=None, rate=rate))

    return heard


def checkpoints(out: Path, teachers: int) -> tuple[Path, ...]:
    """Where a run that writes the model `out` keeps what it has learned: of each teacher, and what it thinks of the
    rows; of the student."""
    every = [f"{kind}-{number + 1}" for number in range(teachers) for kind in (fit.TEACHER, fit.LESSONS)]
    return tuple(out.parent / f"{out.name}.{name}.pt" for name in [*every, fit.STUDENT])


def splits(data: Sequence[Path], sentences: Path = SENTENCES) -> tuple[list[Row], list[Row], list[Row]]:
    """(train, validation, test): what is learned from, what calibrates and chooses, what is only reported on.

    VALIDATION_PERCENT and TEST_PERCENT of the data are held out; of our validation sentences, half is
    test. Held-out Latin Uzbek is there in Cyrillic too.
    """
    learned, validation, test = corpus.split(
        (row for path in data for row in labelled.learnable(path)), VALIDATION_PERCENT, TEST_PERCENT
    )
    first, second = corpus.halves(corpus.sentences(sentences / "validation"))
    learned += corpus.sentences(sentences / "train")
    for held, ours in ((validation, first), (test, second)):
        held += ours
        held += [corpus.in_cyrillic(row) for row in held if row.language == "uz"]
    return learned, validation, test


def finish(
    model: Encoder,
    learned: Sequence[Row],
    calibrating: Sequence[Row],
    reported: Sequence[Row],
    *,
    keep: Sequence[int],
    out: Path,
    name: str,
    run: str,
) -> evaluate.Report:
    """Calibrate, quantise, evaluate and write a fitted model. The rows of either kind it has not seen."""
    tokenizer = backbone.tokenizer(backbone.read_packed(backbone.packed_path()), keep)
    reader = Reader(artifact.SHIPPED, export.MAX_TOKENS)
    step = max(1, len(learned) // _RANGE_TEXTS)
    bounds = export.ranges(model, [item.ids for item in reader.read([row.text for row in learned[::step]])])
    plain = artifact.Calibration(temperature={UNKNOWN_LANGUAGE: 1.0})

    def write(calibrated: dict[str, artifact.Calibration], shares: dict[str, dict[str, float]], text: str) -> str:
        return export.write(
            out,
            name=name,
            model=model,
            heads=HEADS,
            tokenizer=tokenizer,
            language=artifact.SHIPPED / artifact.LANGUAGE,
            bounds=bounds,
            calibration=calibrated,
            ngrams=shares,
            card=text,
        )

    write({head: plain for head in HEADS}, {}, "")
    cyrillic = [corpus.in_cyrillic(row) for row in learned if row.language == "uz"]
    train_tfidf.train_tfidf([*learned, *cyrillic], out / artifact.BASELINE)
    served = OnnxClassifier(str(out), torch.get_num_threads())
    logits = served.logits([item.ids for item in reader.read([row.text for row in calibrating])])
    shares = mix(logits, calibrating, Tfidf(out / artifact.BASELINE))
    calibrated = temperatures(logits, calibrating)
    digest = write(calibrated, shares, "")
    sources = sorted(
        {row.source for row in learned}, key=lambda s: (s not in card.SOURCES, [*card.SOURCES, s].index(s))
    )
    compared = [row.text for row in reported[:: max(1, len(reported) // _COMPARED_TEXTS)]]
    seen = [item.ids for item in reader.read(compared)]
    same = agreement(model, served, seen)
    run += f"; int8 says the sentiment that fp32 says on {same:.1%} of {len(seen):,} held-out texts"
    for head, parts in shares.items():
        listed = ", ".join(f"{language} {part:g}" for language, part in parts.items())
        run += f"; the part of character n-grams in {head}: {listed}"
    report = evaluate.evaluate(reported, [OnnxClassifier(str(out), torch.get_num_threads())])
    shape = f"{len(model.layers)} of its 12 layers, {model.layers[0].up.out_features:,} of 1,536 inner units, "
    shape += f"tokens halved before {list(model.halvings)}, {len(keep):,} pieces"
    write(calibrated, shares, card.write(name, weights=digest, backbone=shape, sources=sources, run=run, report=report))
    return report


def agreement(model: Encoder, served: OnnxClassifier, ids: Sequence[Sequence[int]]) -> float:
    """Share of texts whose sentiment is the same in fp32 (torch) and as served."""
    exact = np.zeros((len(ids), HEADS["sentiment"]), np.float32)
    with torch.inference_mode():
        for batch in batching.by_length([len(pieces) for pieces in ids]):
            exact[batch] = model(torch.from_numpy(export.padded([ids[i] for i in batch])))["sentiment"].numpy()
    return float((served.logits(ids)["sentiment"].argmax(1) == exact.argmax(1)).mean())


def mix(logits: dict[str, Array], rows: Sequence[Row], baseline: Tfidf) -> dict[str, dict[str, float]]:
    """Mix the baseline's opinions into the logits; the part that they have in each head and language.

    Sources that are too noisy to learn much from have no say in how large that part is.
    """
    opinions = baseline.opinions([row.text for row in rows])
    found = {}
    for head, known in labels(rows).items():
        chosen = [i for i in _chosen(head, known, rows) if fit.REPEATS.get(rows[i].source, 1) >= _CLEAN]
        if head not in opinions or not chosen:
            continue
        truth, tags = np.array([known[i] for i in chosen]), [rows[i].language for i in chosen]
        shares = calibration.ngrams(
            logits[head][chosen], opinions[head][chosen], truth, tags, binary=head != "sentiment"
        )
        parts = np.array([shares.get(row.language, 0.0) for row in rows], np.float32)
        logits[head] = calibration.mixed(logits[head], opinions[head], parts)
        found[head] = shares
    return found


def labels(rows: Sequence[Row]) -> dict[str, list[int | list[int] | None]]:
    """What is known of each row, by head."""
    return {
        "sentiment": [row.sentiment for row in rows],
        "topics": [None if row.topics is None else [int(t in row.topics) for t in TOPICS] for row in rows],
        "urgency": [None if row.urgent is None else [int(row.urgent)] for row in rows],
    }


def _chosen(head: str, known: Sequence[int | list[int] | None], rows: Sequence[Row]) -> list[int]:
    """The rows that say something of the head."""
    chosen = [i for i, label in enumerate(known) if label is not None]
    if head == "topics":  # a source with one topic a text says little about the others' chances
        chosen = [i for i in chosen if rows[i].source == corpus.OWN] or chosen
    return chosen


def temperatures(logits: dict[str, Array], rows: Sequence[Row]) -> dict[str, artifact.Calibration]:
    """A calibration for each head, from the rows that have a label for it; thresholds for the sentiment."""
    found = {}
    for head, known in labels(rows).items():
        chosen = _chosen(head, known, rows)
        truth, languages = np.array([known[i] for i in chosen]), [rows[i].language for i in chosen]
        found[head] = calibration.calibrate(logits[head][chosen], truth, languages, binary=head != "sentiment")
        if head == "sentiment":
            scale = np.array([found[head].of(language) for language in languages])
            chances = softmax(logits[head][chosen] / scale[:, None])
            right = chances.argmax(axis=1) == truth
            limits = calibration.thresholds(chances.max(axis=1), right, languages, corpus.LANGUAGES)
            found[head] = replace(found[head], threshold=limits)
    return found
