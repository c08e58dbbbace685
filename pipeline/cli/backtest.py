"""`ovoz alerts backtest` and `ovoz alerts tune`: rules on history."""

from __future__ import annotations

import json
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.cli.shared import DONE, Failed, one_line, settings_of, with_config

if TYPE_CHECKING:
    from alerts.alert import Sample
    from alerts.backtest import Labelled, Replayed, Verdict
    from pipeline.settings import Settings

_SHOWN: Final = 40
_EVERY_S: Final = 5.0


def _when(_: click.Context, option: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time: write 2026-11-01 or 2026-11-01T13:05+05:00") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _history(function: Callable[..., int]) -> Callable[..., int]:
    """The options that say which history: files, the broker or (by default) the store."""
    for decorate in reversed((
        click.argument("files", nargs=-1, metavar="[FILE]…",
                       type=click.Path(exists=True, dir_okay=False, path_type=Path)),
        click.option("--kafka", is_flag=True, help="Read what the broker keeps of scored items, not the store."),
        click.option("--from", "begin", metavar="TIME", callback=_when,
                     help="Show alerts from here on; what came before only teaches. UTC unless it says its offset."),
        click.option("--to", "end", metavar="TIME", callback=_when, help="Read items to here, without it."),
        click.option("--incidents", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
                     help="Labelled incidents (TOML or JSON): what was true."),
        click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="As for `ovoz replay`."),
        click.option("--source", metavar="NAME", help="Source of the items that name none."),
        click.option("--channel", metavar="NAME", help="Channel of the items that name none."),
        click.option("--workspace", metavar="NAME", help="Workspace of the items that name none."),
        click.option("--language", metavar="TAG", help="Language of the items that name none."),
        click.option("--zone", metavar="ZONE", help="Zone of times that have none, such as Asia/Tashkent."),
        click.option("--time-format", metavar="FORMAT", help="How times are written, as for `ovoz replay`."),
        click.option("--rating-scale", metavar="LOW..HIGH", help="Scale of ratings that are plain numbers."),
        click.option("--day", metavar="DATE", callback=_day,
                     help="Day of times that are a clock's only, such as 13:05."),
    )):  # fmt: skip
        function = decorate(function)
    return function


def _day(_: click.Context, option: click.Parameter, value: str | None) -> date | None:
    try:
        return None if value is None else date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no day: write 2026-11-01") from None


@click.command("backtest", short_help="See what rules would have done.")
@click.option("--rules", "rule_files", multiple=True, metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Rule file; twice to compare two. Default: the rules in use.")  # fmt: skip
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.svg",
              help="Draw a timeline of the (first) rules.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each alert, and no words.")
@_history
@with_config
def backtest(
    rule_files: tuple[Path, ...], picture: Path | None, as_json: bool, config: Path | None, **options: Any
) -> int:
    """Replay rules on history in event time, through the worker's own engine: what would have fired, when, why.

    History is what the store holds, or with --kafka the broker, or each FILE (JSONL or CSV, plain or gzip). Lines
    with `sentiment` and `topic` are taken as scored, others are classified first. Nothing is sent or stored.

    With --incidents, false alarms per week and the delay of each true incident are told:

    \b
        [[incident]]
        name = "couriers on strike"
        from = 2026-11-03T13:00:00Z
        to = 2026-11-03T15:00:00Z
        labels = { topic = "delivery" }     # optional: which alerts are about it

    \b
    Example:
        ovoz alerts backtest --from 2026-11-01 --incidents incidents.toml
        ovoz alerts backtest --rules rules.toml --rules stricter.toml --from 2026-11-01
        ovoz alerts backtest day.jsonl --map created_at=at --day 2026-11-24 --picture day.svg
    """
    if len(rule_files) > 2:
        raise click.UsageError("--rules: one file, or two to compare")
    if picture is not None and picture.suffix.lower() != ".svg":
        raise click.UsageError(f"--picture {picture}: pictures are SVG; name it {picture.with_suffix('.svg')}")
    settings = settings_of(config)
    from alerts.backtest import judge, replay
    from pipeline.live_rules import read_rules

    sets = [(str(file), read_rules(file)) for file in rule_files]
    sets = sets or [(str(settings.alerts.rules or "the default rules"), read_rules(settings.alerts.rules))]
    labelled = _labelled(options["incidents"])
    history, begin = _samples(settings, options, keep=len(sets) > 1 or picture is not None), options["begin"]
    verdicts = []
    for number, (name, rules) in enumerate(sets):
        started = time.monotonic()
        replayed = replay(rules, history(), since=begin, progress=_progress())
        took = time.monotonic() - started
        if not replayed.items:
            raise Failed("there is no history: no item counts in this time; see `ovoz status`")
        verdict = judge(replayed, labelled)
        verdicts.append((name, replayed, verdict))
        if as_json:
            for alert in replayed.alerts:
                click.echo(alert.to_json())
        else:
            _tell(name, replayed, verdict, labelled, took)
        if picture is not None and number == 0:
            picture.write_text(_drawn(history(), replayed, labelled), encoding="utf-8")
            click.echo(f"drawn: {picture}", err=True)
    if len(verdicts) == 2 and not as_json:
        _compare(verdicts, labelled)
    return DONE


@click.command("tune", short_help="Propose the setting for a wanted false-alarm rate.")
@click.argument("rule_name", metavar="RULE")
@click.option("--wanted", type=click.FloatRange(min=0, min_open=True), required=True, metavar="N",
              help="False alarms a week that you accept of the rule as a whole.")  # fmt: skip
@click.option("--rules", "rule_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Rule file. Default: the rules in use.")  # fmt: skip
@_history
@with_config
def tune(rule_name: str, wanted: float, rule_file: Path | None, config: Path | None, **options: Any) -> int:
    """Propose `false_alarms_per_week` for RULE from history, and say how sure that is.

    Each of ten settings is replayed. Every alert outside the labelled incidents counts as false: label the true
    ones, or the proposal will be too strict. History as for `ovoz alerts backtest`.

    \b
    Example:
        ovoz alerts tune negative-spike --wanted 1 --incidents incidents.toml
    """
    settings = settings_of(config)
    from alerts.backtest import replay
    from alerts.tune import proposed, trials
    from pipeline.live_rules import read_rules

    rules = read_rules(rule_file or settings.alerts.rules)
    rule = next((one for one in rules if one.name == rule_name), None)
    if rule is None:
        raise Failed(f"no rule is named {rule_name}; there are {', '.join(one.name for one in rules)}")
    history = _samples(settings, options, keep=False)
    labelled = _labelled(options["incidents"])
    try:
        tried = trials(
            rule, lambda some: replay(some, history(), since=options["begin"], progress=_progress()), labelled
        )
    except ValueError as error:
        raise Failed(str(error)) from None
    click.echo(f"{'setting':>8}  {'false a week':>12}  {'95 % interval':>15}  found  median delay")
    for trial in tried:
        verdict = trial.verdict
        found = f"{verdict.found}/{len(labelled)}" if labelled else "-"
        click.echo(
            f"{trial.setting:>8g}  {verdict.rate:>12.2f}  {f'{trial.low:.2f} to {trial.high:.2f}':>15}  {found:>5}  "
            f"{_minutes(verdict.delay)}"
        )
    best, weeks = proposed(tried, wanted), tried[0].verdict.weeks
    if best is None:
        raise Failed(
            f"even {tried[0].setting:g} gave more than {wanted:g} false alarms a week: label the true incidents, "
            "or look at the alerts with `ovoz alerts backtest`"
        )
    click.echo(
        f"false_alarms_per_week = {best.setting:g}   # {rule.name}: {len(best.verdict.false)} false alarms in "
        f"{weeks:.1f} weeks; with 95 % certainty between {best.low:.2f} and {best.high:.2f} a week"
    )
    if best.high > wanted:
        click.echo(
            f"not certain: {weeks:.1f} weeks cannot show less than {best.high:.2f} a week. What theory promises is "
            f"at most the setting, for each series, while its share wanders as usual.",
            err=True,
        )
    return DONE


def _samples(settings: Settings, options: dict[str, Any], *, keep: bool) -> Callable[[], Iterable[Sample]]:
    """A way to read the history, as often as needed."""
    end: datetime | None = options["end"]
    if options["files"] and options["kafka"]:
        raise click.UsageError("either files or --kafka")
    if options["files"]:
        from_files = _of_files(settings, options)
        return lambda: [sample for sample in from_files if end is None or sample.at < end]
    if options["kafka"]:
        from pipeline.history import from_scored, scored_in

        kept = list(from_scored(scored_in(settings.kafka), None, end))
        return lambda: kept
    if keep:
        whole = list(_of_store(settings, end))
        return lambda: whole
    return lambda: _of_store(settings, end)


def _of_store(settings: Settings, end: datetime | None) -> Iterator[Sample]:
    from pipeline.store.engine import connect
    from pipeline.store.history import samples
    from pipeline.store.read import reading

    engine = connect(settings.store.url)
    try:
        with reading(engine) as connection:
            yield from samples(connection, None, end, fresh=timedelta(minutes=settings.alerts.max_age_minutes))
    finally:
        engine.dispose()


def _of_files(settings: Settings, options: dict[str, Any]) -> list[Sample]:
    from pipeline.author import load_key
    from pipeline.cli.replay import shape_of
    from pipeline.history import Read, from_files
    from pipeline.model import classifier_of
    from pipeline.redact import Redactor

    shape = shape_of({**options, "backfill": None, "strict": False})
    intake, read = settings.ingest, Read()
    redactor = Redactor(settings.privacy, load_key(intake.author_key_file, intake.data_dir))
    found = from_files(
        options["files"], shape, redactor, lambda: classifier_of(settings.model), read, day=options["day"]
    )
    if read.unreadable:
        bad = ", ".join(f"{one_line(reason, 80)} ({count:,})" for reason, count in read.unreadable.most_common(5))
        click.echo(f"{read.unreadable.total():,} of {read.lines:,} lines are unreadable: {bad}", err=True)
    if not found:
        raise Failed("nothing could be read: no line holds an item; --map names the columns")
    return found


def _labelled(file: Path | None) -> tuple[Labelled, ...]:
    """The incidents of a file. Raises Failed, with every fault."""
    if file is None:
        return ()
    from alerts.backtest import Labelled

    try:
        text = file.read_text("utf-8-sig")
        data = json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise Failed(f"{file}: {error}") from None
    tables = data.get("incident", []) if isinstance(data, dict) else data
    found: list[Labelled] = []
    faults = []
    for number, table in enumerate(tables if isinstance(tables, list) else [], 1):
        try:
            name, labels = str(table.get("name", f"incident {number}")), table.get("labels", {})
            begin, end = _moment(table["from"]), _moment(table["to"])
            if not begin < end:
                raise ValueError("`to` must be later than `from`")
            if not isinstance(labels, dict):
                raise ValueError('labels must be a table, such as { topic = "delivery" }')
            if name in {one.name for one in found}:
                raise ValueError(f"{name} is the name of another one too")
        except (KeyError, ValueError, TypeError, AttributeError) as fault:
            reason = f"{fault} is missing" if isinstance(fault, KeyError) else str(fault)
            faults.append(f"{file}: incident {number}: {reason}")
            continue
        found.append(
            Labelled(name=name, begin=begin, end=end, labels={str(key): str(one) for key, one in labels.items()})
        )
    if faults:
        raise Failed("\n".join(faults))
    if not found:
        raise Failed(f"{file}: holds no incident: write [[incident]] with name, from and to")
    return tuple(found)


def _moment(value: object) -> datetime:
    at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _tell(name: str, replayed: Replayed, verdict: Verdict, labelled: Sequence[Labelled], took: float) -> None:
    click.echo(f"{one_line(name)}: {len(replayed.alerts)} alerts")
    false = {alert.incident for alert in verdict.false}
    for alert in replayed.alerts[:_SHOWN]:
        lasted = f"{_minutes(alert.ends_at - alert.starts_at):>9}" if alert.ends_at else "   firing"
        mark = "" if not labelled else " FALSE" if alert.incident in false else " true "
        click.echo(f"  {alert.starts_at:%Y-%m-%d %H:%M}Z {lasted}{mark}  {alert.rule}  "
                   f"{one_line(alert.annotations.get('summary', ''), 80)}")  # fmt: skip
        click.echo(f"      {one_line(alert.annotations.get('description', ''), 200)}")
        for quote in alert.evidence[:2]:
            click.echo(f"      “{one_line(quote.text, 100)}”")
    if len(replayed.alerts) > _SHOWN:
        click.echo(f"  … and {len(replayed.alerts) - _SHOWN:,} more; --json gives all")
    for incident in labelled:
        delay = verdict.delays[incident.name]
        click.echo(f"  {one_line(incident.name)}: " + ("missed" if delay is None else f"found after {_minutes(delay)}"))
    if labelled:
        from alerts.tune import interval

        sure = (
            ""
            if not verdict.weeks
            else " (95 %: {:.2f} to {:.2f})".format(*interval(len(verdict.false), verdict.weeks))
        )
        click.echo(f"  {verdict.rate:.2f} false alarms a week{sure}, {verdict.found} of {len(labelled)} found, "
                   f"median delay {_minutes(verdict.delay)}")  # fmt: skip
    rate = replayed.items / max(took, 1e-6)
    click.echo(
        f"  {replayed.items:,} items of {replayed.weeks:.2f} weeks, {replayed.series:,} series, {rate:,.0f} items/s"
    )


def _compare(verdicts: Sequence[tuple[str, Replayed, Verdict]], labelled: Sequence[Labelled]) -> None:
    (one, first, left), (other, second, right) = verdicts
    click.echo(f"\n{'':24}{one_line(one, 24):>26}{one_line(other, 24):>26}")
    rows = [("alerts", str(len(first.alerts)), str(len(second.alerts)))]
    if labelled:
        rows += [
            ("false alarms a week", f"{left.rate:.2f}", f"{right.rate:.2f}"),
            ("incidents found", f"{left.found}/{len(labelled)}", f"{right.found}/{len(labelled)}"),
            ("median delay", _minutes(left.delay), _minutes(right.delay)),
        ]
    rows.append(("time firing", _minutes(_firing(first)), _minutes(_firing(second))))
    for name, a, b in rows:
        click.echo(f"{name:24}{a:>26}{b:>26}")


def _firing(replayed: Replayed) -> timedelta:
    end = replayed.end
    return sum(((alert.ends_at or end or alert.starts_at) - alert.starts_at for alert in replayed.alerts), timedelta(0))


def _drawn(samples: Iterable[Sample], replayed: Replayed, labelled: Sequence[Labelled]) -> str:
    from alerts.timeline import Counts, draw

    assert replayed.begin is not None and replayed.end is not None  # noqa: S101 - there were items
    counts = Counts(begin=replayed.begin, end=replayed.end)
    for sample in samples:
        counts.add(sample)
    return draw(counts, replayed.alerts, labelled, "Backtest")


def _minutes(length: timedelta | None) -> str:
    if length is None:
        return "-"
    minutes = length.total_seconds() / 60
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _progress() -> Callable[[int], None]:
    """A line every few seconds on stderr."""
    due = time.monotonic() + _EVERY_S

    def show(items: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _EVERY_S
            print(f"{items:,} items replayed", file=sys.stderr)

    return show
