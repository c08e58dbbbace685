"""`ovoz quotes`: the worst of what customers said lately."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.shared import DONE, command, one_line, settings_of
from pipeline.windows import WINDOWS_MINUTES


@command("quotes", short_help="Show the worst of what was said lately.")
@click.option("--workspace", help="Only of this workspace.")
@click.option("--source", help="Only of this source.")
@click.option("--channel", help="Only of this channel: review, chat, …")
@click.option("--topic", help="Only about this topic.")
@click.option("--language", help="Only in this language.")
@click.option("--touchpoint", help="Only at this touchpoint.")
@click.option("--window", type=click.Choice(list(WINDOWS_MINUTES)), default="1h", show_default=True,
              help="How long ago at most, by the time at which it was written.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def quotes(window: str, limit: int, as_json: bool, config: Path | None, **filters: str | None) -> int:
    """Show what customers said that is most negative, in their own words; what is nearly alike once.

    Personal data was taken out before it was stored. The same page for a browser, to which dashboards link, is
    /quotes of each worker, where [worker] quotes_token_sha256 is set.

    \b
    Example:
        ovoz quotes --topic delivery --window 24h
    """
    import orjson

    from pipeline.quotes_page import as_data
    from pipeline.store.engine import connect, prepare
    from pipeline.store.quotes import worst_lately

    picked = {name: value for name, value in filters.items() if value}
    engine = connect(settings_of(config).store.url)
    try:
        prepare(engine)
        found = worst_lately(engine, picked, window, limit)
    finally:
        engine.dispose()
    for one in found:
        if as_json:
            click.echo(orjson.dumps(as_data(one)).decode())
        else:
            about = "  ".join(filter(None, (one.source, one.topic, one.language, one.touchpoint)))
            click.echo(f"{one.at:%Y-%m-%d %H:%M}Z  {one.score:+.2f}  {one_line(about, 200)}  {one_line(one.text, 500)}")
    if not found:
        click.echo(f"nothing negative was said in the last {window}", err=True)
    return DONE
