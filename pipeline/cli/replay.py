"""`ovoz replay`: options, progress and summary; the work is done by pipeline.replay."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.cli.shared import DONE, FAILED, command, one_line, settings_of

if TYPE_CHECKING:
    from pipeline.replay import Tally
    from pipeline.replay_item import Shape

PLAIN_EVERY_S: Final = 5.0


@command("replay", short_help="Send files of feedback through the pipeline.")
@click.argument("files", nargs=-1, required=True, metavar="FILE…",
                type=click.Path(exists=True, dir_okay=False, allow_dash=True))  # fmt: skip
@click.option("--speed", default="max", show_default=True, metavar="N|max",
              help="N times as fast as event time says; max: as fast as the broker takes it.")  # fmt: skip
@click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN",
              help="Take FIELD from COLUMN; dots reach into nested objects. May be repeated.")  # fmt: skip
@click.option("--source", metavar="NAME", help="Source of the items that name none.")
@click.option("--channel", metavar="NAME", help="Channel of the items that name none.")
@click.option("--workspace", metavar="NAME", help="Workspace of the items that name none.")
@click.option("--language", metavar="TAG", help="Language of the items that name none.")
@click.option("--zone", metavar="ZONE", help="Zone of times that have none, such as Asia/Tashkent.")
@click.option("--time-format", metavar="FORMAT",
              help="How times are written: s, ms (since 1970) or a pattern such as '%d.%m.%Y %H:%M'.")  # fmt: skip
@click.option("--rating-scale", metavar="LOW..HIGH", help="Scale of ratings that are plain numbers, such as 1..5.")
@click.option("--format", "kind", type=click.Choice(["auto", "jsonl", "csv"]), default="auto", show_default=True,
              help="auto looks at the first line.")  # fmt: skip
@click.option("--backfill/--live", default=None,
              help="History that must not page anybody, or news that may. Default: as each item says.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Fields that feedback has not make a line unreadable.")
@click.option("--dry-run", is_flag=True, help="Read and check everything, send nothing; no broker needed.")
def replay(files: tuple[str, ...], config: Path | None, kind: str, dry_run: bool, **options: Any) -> int:
    """Send each FILE (- is standard input) through the pipeline: JSONL, or CSV with a header, plain or gzip.

    The fields are those of the intake: source, id, text, created_at, … Other columns are left out and
    named at the end. An item without id gets one from a hash of its line, so that equal lines count once;
    `--map id=COLUMN` names the real one. Personal data is taken out as [privacy] says. Replaying a file
    again changes nothing.

    Unreadable lines are shown with line and reason (the first 20), counted, and kept as dead letters; the
    rest goes in. Exit status 1 when nothing could be read, a file is damaged or the broker was away.

    \b
    Example:
        ovoz replay feedback.jsonl.gz --backfill
        ovoz replay reviews.csv --source google_play --channel review \\
             --map text=body --map id=review_id --map rating=stars --rating-scale 1..5 \\
             --map created_at=date --zone Asia/Tashkent --speed 60
        zcat old.gz | ovoz replay - --dry-run
    """
    speed = _speed(options["speed"])
    shape = shape_of(options)
    settings = settings_of(config)
    from pipeline.author import load_key
    from pipeline.bus import BrokerAway, Bus
    from pipeline.redact import Redactor
    from pipeline.replay import Hopeless, Outlet, Pace, Tally
    from pipeline.replay import replay as send
    from pipeline.replay_source import SourceError, items, opened
    from pipeline.topics import Topics

    intake = settings.ingest
    key = b"nothing is kept" if dry_run else load_key(intake.author_key_file, intake.data_dir)
    bus = None if dry_run else Bus(settings.kafka)
    tally, topics = Tally(), Topics.of(settings.kafka)
    outlet = Outlet(bus, tally, topics)
    redactor = Redactor(settings.privacy, key)
    pace: Callable[[Any], None] = (lambda _: None) if speed is None or dry_run else Pace(speed, outlet.push)
    failures: list[str] = []
    with ExitStack() as stack:
        if bus is not None:
            stack.callback(bus.close)
        show = stack.enter_context(_Progress(files, tally))
        bad = _Bad(show)
        try:
            for file in files:
                raw = sys.stdin.buffer if file == "-" else stack.enter_context(open(file, "rb"))
                name = "-" if file == "-" else Path(file).name
                show.reading(file, raw)
                try:
                    lines = items(opened(raw), csv_file=None if kind == "auto" else kind == "csv")  # type: ignore[arg-type]
                    send(name, lines, outlet, tally, topics, shape, redactor=redactor, pace=pace,
                         bad=partial(bad, file), progress=show.step)  # fmt: skip
                except SourceError as error:
                    failures.append(f"{file}: {error}")
            outlet.flush()
        except BrokerAway as error:
            failures.append(
                f"the broker was away: {error}; start it (`ovoz broker`) or set [kafka] bootstrap, and replay again: "
                "what arrived already counts once"
            )
        except Hopeless as error:
            outlet.flush()
            failures.append(str(error))
    bad.summary()
    _summary(tally, dry_run)
    for failure in failures:
        click.echo(f"ovoz: {one_line(failure, 1000)}", err=True)
    if not failures and tally.read == tally.bad:
        click.echo("ovoz: nothing could be read: no line holds an item", err=True)
        return FAILED
    return FAILED if failures else DONE


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise click.UsageError(f"--speed {text}: must be max, or a number above 0, such as 60")
    return speed


def shape_of(options: dict[str, Any]) -> Shape:
    """The shape that options of the command line describe. Raises UsageError."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from connectors.feedback import CHANNELS, FIELDS
    from pipeline.replay_item import Shape

    mapping = {}
    for pair in options["maps"]:
        name, equals, column = pair.partition("=")
        if not equals or not column or name not in FIELDS:
            raise click.UsageError(f"--map {pair}: must be FIELD=COLUMN, with FIELD one of {', '.join(sorted(FIELDS))}")
        mapping[name] = column
    zone, scale = None, None
    if options["zone"]:
        try:
            zone = ZoneInfo(options["zone"])
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise click.UsageError(f"--zone {options['zone']}: no such zone; write it like Asia/Tashkent") from None
    if options["rating_scale"]:
        bounds = re.fullmatch(r"(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)", options["rating_scale"])
        if bounds is None or not float(bounds[1]) < float(bounds[2]):
            raise click.UsageError(f"--rating-scale {options['rating_scale']}: must be LOW..HIGH, such as 1..5")
        scale = (float(bounds[1]), float(bounds[2]))
    if options["channel"] and options["channel"] not in CHANNELS:
        raise click.UsageError(f"--channel {options['channel']}: must be one of {', '.join(CHANNELS)}")
    defaults = {name: options[name] for name in ("source", "channel", "workspace", "language") if options[name]}
    return Shape(mapping=mapping, defaults=defaults, zone=zone, time_format=options["time_format"],
                 rating_scale=scale, backfill=options["backfill"], strict=options["strict"])  # fmt: skip


class _Progress:
    """A bar on a terminal, a line every few seconds elsewhere; both on stderr."""

    def __init__(self, files: tuple[str, ...], tally: Tally) -> None:
        self._files = files
        self._tally = tally
        self._bar: Any = None
        self._task: Any = None
        self._raw: Any = None
        self._before = 0
        self._next = time.monotonic() + PLAIN_EVERY_S

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(TextColumn("{task.description}", markup=False), BarColumn(),
                                 TextColumn("{task.percentage:3.0f} % {task.fields[items]:,} items"),
                                 TimeRemainingColumn(), console=Console(stderr=True))  # fmt: skip
            sizes = [Path(file).stat().st_size for file in self._files if file != "-"]
            self._task = self._bar.add_task("", total=sum(sizes) if "-" not in self._files else None, items=0)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._update()
            self._bar.stop()

    def reading(self, file: str, raw: io.BufferedIOBase | Any) -> None:
        """A file begins; how far it is is told by the position in its bytes, compressed ones too."""
        self._before += self._position()
        self._raw = raw if file != "-" else None
        if self._bar is not None:
            self._bar.update(self._task, description=one_line(file, 40))

    def step(self) -> None:
        """After each line."""
        if self._tally.read & 127 == 0 and time.monotonic() >= self._next:
            self._update()

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def _update(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._before + self._position(), items=self._tally.read)
            self._next = time.monotonic() + 0.1
        else:
            click.echo(f"{self._tally.read:,} lines read, {self._tally.bad:,} unreadable", err=True)
            self._next = time.monotonic() + PLAIN_EVERY_S

    def _position(self) -> int:
        return 0 if self._raw is None or self._raw.closed else int(self._raw.tell())


class _Bad:
    """Shows the first unreadable lines and counts the others."""

    def __init__(self, show: _Progress) -> None:
        self._show = show
        self._count = 0

    def __call__(self, file: str, line: int, reason: str, detail: str) -> None:
        """Show one, if it is among the first."""
        from pipeline.replay import SHOWN

        self._count += 1
        if self._count <= SHOWN:
            self._show.say(f"{one_line(file, 200)}:{line}: {reason}: {one_line(detail)}")

    def summary(self) -> None:
        """How many were not shown."""
        from pipeline.replay import SHOWN

        if self._count > SHOWN:
            click.echo(f"… and {self._count - SHOWN:,} more unreadable lines", err=True)


def _summary(tally: Tally, dry_run: bool) -> None:
    good = tally.read - tally.bad
    sent = "could be sent (dry run)" if dry_run else f"readable, {tally.acknowledged:,} acknowledged by the broker"
    click.echo(f"{tally.read:,} lines: {good:,} {sent}, {tally.bad:,} unreadable")
    if tally.bad:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in tally.unreadable.most_common())
        kept = "" if dry_run else "; kept as dead letters, see `ovoz dead list`"
        click.echo(f"unreadable: {reasons}{kept}")
    if good:
        click.echo("sources: " + ", ".join(f"{name} {count:,}" for name, count in tally.sources.most_common(10)))
    if tally.earliest is not None and tally.latest is not None:
        click.echo(f"event time: {tally.earliest:%Y-%m-%d %H:%M:%S}Z to {tally.latest:%Y-%m-%d %H:%M:%S}Z")
    if tally.left_out:
        columns = ", ".join(f"{one_line(name, 64)} ({count:,})" for name, count in tally.left_out.most_common(20))
        click.echo(f"left out, since feedback has no such field: {columns}")
