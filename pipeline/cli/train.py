"""`ovoz train`: a model of one's own, from labelled texts to the folder that is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pipeline.cli.shared import DONE, Failed, command

if TYPE_CHECKING:
    from models.fit import Progress as Step

_ENDINGS: Final = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")


@command("train", short_help="Train a model from labelled texts.")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="FILE|FOLDER…")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="model", show_default=True,
              help="Folder of the model.")  # fmt: skip
@click.option("--name", help="Name of the model, which stands on every score; default: that of the shipped one.")
@click.option("--steps", type=click.IntRange(1), help="Steps of training; default: those of the shipped model.")
@click.option("--teacher", type=click.IntRange(0),
              help="Steps of each of the teachers, which learn first; 0: no teachers.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1, 4096), help="Texts a step; default: those of the shipped model.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same model.")
@click.option("--threads", type=click.IntRange(1, 1024), default=2, show_default=True, help="Processor cores.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True),
              help="End by then, with fewer steps; the model then depends on the machine.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Begin anew, even if a checkpoint is there.")
def train(
    data: tuple[Path, ...],
    out: Path,
    name: str | None,
    steps: int | None,
    teacher: int | None,
    batch: int | None,
    seed: int,
    threads: int,
    minutes: float | None,
    fresh: bool,
    config: Path | None,
) -> int:
    """Train on labelled texts and on the sentences that come with Ovoz, and write a model that can be served.

    Each FILE is .jsonl or .csv (either with .gz, too) with the fields that `ovoz evaluate --help` describes; of a
    FOLDER every such file is read. 4 % of it are held out to calibrate, 4 % to report on; texts that nearly repeat
    are never on both sides. Texts in other languages than the model's are left out.

    Two teachers of twice the layers learn first; the network that is served learns from the labels and from what the
    teachers, and a bag of character n-grams, think of every text. A run that was ended goes on where it was with the
    same command: checkpoints are written beside the folder every few minutes. In the end the folder holds int8
    weights, tokenizer, calibration, the TF-IDF baseline, and card.md: what it learned from, how good it is in each
    language, what it is bad at.

    Needs torch: pip install 'ovoz[train]'. Two cores take an hour or so for 90,000 texts.

    \b
    Example:
        ovoz train ../shared/data --out models/mine
        ovoz train reviews.csv tickets.jsonl --out mine --minutes 30
        OVOZ_MODEL_PATH=mine ovoz classify "Where is my parcel?"
    """
    try:
        from models import train as training
        from models.fit import Settings
    except ImportError as missing:
        raise Failed(f"training needs {missing.name}: pip install 'ovoz[train]'") from None

    chosen = Settings(seed=seed, threads=threads, minutes=minutes)
    chosen = replace(chosen, steps=steps or chosen.steps, batch=batch or chosen.batch)
    if teacher is not None:
        chosen = replace(chosen, teacher=teacher, teachers=chosen.teachers if teacher else 0)
    files = [file for path in data for file in _files(path)]
    checkpoints = training.checkpoints(out, chosen.teachers)
    for checkpoint in checkpoints:
        if fresh:
            checkpoint.unlink(missing_ok=True)
        elif checkpoint.exists():
            click.echo(f"going on from {checkpoint}", err=True)
    click.echo(f"reading {', '.join(map(str, files))}", err=True)
    try:
        with _bar() as report:
            done = training.train(files, out, settings=chosen, name=name or training.NAME, report=report)
    except KeyboardInterrupt:
        for checkpoint in checkpoints:
            if checkpoint.exists():
                click.echo(f"\n{checkpoint} is kept: the same command goes on from there", err=True)
        raise
    click.echo(done.to_markdown().partition("\nReliability")[0])
    click.echo(f'wrote {out}; its card is {out / "card.md"}. To use it, write into ovoz.toml:\n[model]\npath = "{out}"')
    return DONE


def _files(path: Path) -> list[Path]:
    """The labelled files that a path names."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.endswith(_ENDINGS))
    if found:
        return found
    if any(path.glob("*.tsv")):
        return [path]
    raise Failed(f"{path} holds no labelled texts: expected files that end in {', '.join(_ENDINGS)}")


@contextmanager
def _bar() -> Iterator[Callable[[Step], None]]:
    """A bar for each stage on a terminal, lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda now: click.echo(f"{now.stage}: step {now.step:,} of {now.steps:,}, {_numbers(now)}", err=True)
        return
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"))
    with Progress(*shown, TimeRemainingColumn(), console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def report(now: Step) -> None:
            if now.stage not in tasks:
                tasks[now.stage] = bar.add_task(now.stage, total=now.steps, numbers="")
            bar.update(tasks[now.stage], completed=now.step, numbers=_numbers(now))

        yield report


def _numbers(now: Step) -> str:
    return ("" if now.loss is None else f"loss {now.loss:.3f}, ") + f"{now.rate:.0f} texts/s"
