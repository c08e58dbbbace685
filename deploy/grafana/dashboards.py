"""Writes the dashboard that Grafana is provisioned with: `python -m deploy.grafana.dashboards`.

Sums over workers are the truth, since each worker shows the partitions it owns. A mean is not: it is
weighted by the items behind it before it is added up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    CustomVariable,
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphDrawStyle, LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)

FILE: Final = Path(__file__).parent / "dashboards" / "voice-of-the-customer.json"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
PICKED: Final = 'source=~"$source"'
WINDOW: Final = 'window="$window"'

Query = tuple[str, str]
"""A PromQL expression and the legend of its series."""
P = TypeVar("P", timeseries.Panel, stat.Panel, bargauge.Panel)


def _share(window: str) -> str:
    negative = f'sum by (topic) (feedback_window_items{{{PICKED}, window="{window}", sentiment="negative"}})'
    return f'{negative} / sum by (topic) (feedback_window_items{{{PICKED}, window="{window}"}})'


def _score() -> str:
    shared = "instance, job, source, topic, window"
    items = f"sum by ({shared}) (feedback_window_items{{{PICKED}, {WINDOW}}})"
    weighted = f"feedback_sentiment_score{{{PICKED}, {WINDOW}}} * on ({shared}) {items}"
    return f"sum by (source) ({weighted}) / sum by (source) (feedback_window_items{{{PICKED}, {WINDOW}}})"


def _latency(quantile: float) -> str:
    rate = "sum by (le) (rate(feedback_end_to_end_latency_seconds_bucket[$__rate_interval]))"
    return f"histogram_quantile({quantile:g}, {rate})"


def _targets(panel: P, queries: tuple[Query, ...], *, instant: bool) -> P:
    for index, (expression, legend) in enumerate(queries):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + index))
        panel.with_target(query.instant() if instant else query.range())
    return panel


def _lines(title: str, about: str, unit: str, *queries: Query, stacked: bool = False) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = timeseries.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(12).height(8)
    panel.legend(legend.show_legend(True)).draw_style(GraphDrawStyle.LINE).fill_opacity(30 if stacked else 8)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return _targets(panel, queries, instant=False)


def _bars(title: str, about: str, unit: str, *queries: Query) -> bargauge.Panel:
    panel = bargauge.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(12).height(9)
    return _targets(panel, queries, instant=True)


def _number(title: str, about: str, unit: str, query: str, *, alarm: float | None = None) -> stat.Panel:
    """One number; from `alarm` on it is shown red."""
    panel = stat.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(6).height(4)
    # A counter with labels does not exist before its first event: nothing means zero.
    panel.no_value("0")
    steps = [Threshold(value=None, color="green")]
    if alarm is not None:
        steps.append(Threshold(value=alarm, color="red"))
    panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return _targets(panel, ((query, title),), instant=True)


def _table(title: str, about: str, unit: str, query: str, hidden: tuple[str, ...]) -> table.Panel:
    panel = table.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(12).height(8)
    panel.with_target(prometheus.Dataquery().expr(query).instant().format("table").ref_id("A"))  # type: ignore[arg-type]
    options = {"excludeByName": dict.fromkeys(hidden, True)}
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=options))


def dashboard() -> Dashboard:
    """The voice of the customer above, the pipeline that carries it below."""
    board = Dashboard("Voice of the customer").uid("voice-of-the-customer").tags(["ovoz"]).readonly()
    board.description("What customers say, by topic and source, and whether the pipeline hears all of it.")
    board.time("now-6h", "now").refresh("10s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    board.with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    board.with_variable(
        QueryVariable("source")
        .label("Source")
        .query("label_values(feedback_items, source)")
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )
    hour = VariableOption(text="1h", value="1h", selected=True)
    board.with_variable(CustomVariable("window").label("Now").values("5m,1h,24h").current(hour))

    board.with_row(Row("What customers say"))
    for panel in (
        _bars(
            "Items by topic and sentiment", "Live items of the chosen window, by event time.", "short",
            (f"sum by (topic, sentiment) (feedback_window_items{{{PICKED}, {WINDOW}}})", "{{topic}} · {{sentiment}}"),
        ),
        _bars(
            "Negative share: now and over 24 hours",
            "Share of negative items of each topic in the chosen window, beside its last 24 hours; "
            "unsure items are in the denominator.", "percentunit",
            (_share("$window"), "{{topic}} · now"),
            (_share("24h"), "{{topic}} · 24 h"),
        ).min(0).max(1),
        _lines(
            "Negative share over time", "Share of negative items of each topic in the chosen window.", "percentunit",
            (_share("$window"), "{{topic}}"),
        ).min(0).max(1),
        _lines(
            "Score by source", "Mean score in the chosen window: −1 is negative, 1 is positive.", "none",
            (_score(), "{{source}}"),
        ).min(-1).max(1).decimals(2),
        _lines(
            "Items counted, by channel", "Items counted for the first time, a second.", "cps",
            (f"sum by (channel) (rate(feedback_scored_total{{{PICKED}}}[$__rate_interval]))", "{{channel}}"),
            stacked=True,
        ),
        _lines(
            "Live items by topic", "All items within retention, exact: edits replaced, deletions taken off.", "short",
            (f"sum by (topic) (feedback_items{{{PICKED}}})", "{{topic}}"),
            stacked=True,
        ),
        _table(
            "Alerts about customers", "Firing now, by rule, topic and severity.", "none",
            "sum by (rule, topic, severity) (feedback_alert_active) > 0", ("Time",),
        ),
        _bars(
            "Time since each source was last heard", "A source that went quiet is not a calm one.", "s",
            (f"time() - max by (source) (feedback_source_last_success_timestamp_seconds{{{PICKED}}})", "{{source}}"),
        ),
    ):  # fmt: skip
        board.with_panel(panel)

    board.with_row(Row("Whether all of it is heard"))
    for watched in (
        _number("Workers", "Workers that answer.", "none", 'sum(up{job="ovoz-worker"})'),
        _number(
            "Unaccounted items", "Raw records passed by without a known outcome; must be 0.", "short",
            "sum(feedback_unaccounted_items)", alarm=1,
        ),
        _number(
            "Lost items", "Raw records that Kafka dropped before they had an outcome, in 24 hours; must be 0.",
            "short", "sum(increase(feedback_lost_items_total[24h]))", alarm=1,
        ),
        _number(
            "Dead letters", "Records filed as unreadable by the workers that run now.", "short",
            "sum(feedback_dead_letters_total)", alarm=1,
        ),
        _lines(
            "End-to-end latency", "From receipt to committed count, backfill excluded.", "s",
            *((_latency(quantile), name) for quantile, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))),
        ),
        _lines(
            "Waiting in Kafka", "Records in the log that no worker has taken yet.", "short",
            ("sum by (topic) (max by (topic, partition) (feedback_consumer_lag_records))", "{{topic}}"),
        ),
        _lines(
            "Dead letters by reason", "Records filed as unreadable, a second.", "cps",
            ("sum by (stage, reason) (rate(feedback_dead_letters_total[$__rate_interval]))", "{{stage}} · {{reason}}"),
        ),
        _lines(
            "Model", "Duration of one batch of the model: median and the slowest hundredth.", "s",
            *(
                (
                    f"histogram_quantile({quantile}, "
                    "sum by (le) (rate(feedback_model_inference_seconds_bucket[$__rate_interval])))",
                    name,
                )
                for quantile, name in ((0.5, "p50"), (0.99, "p99"))
            ),
        ),
        _lines(
            "Notifications by outcome", "Alerts told to each receiver, a second.", "cps",
            (
                "sum by (receiver, outcome) (rate(feedback_alert_notifications_total[$__rate_interval]))",
                "{{receiver}} · {{outcome}}",
            ),
        ),
        _table(
            "Alerts about the pipeline", "Pending and firing now.", "none",
            'sum by (alertname, severity, alertstate) (ALERTS{component="pipeline"})', ("Time", "Value"),
        ),
    ):  # fmt: skip
        board.with_panel(watched)
    return board


def text() -> str:
    """The file that Grafana reads."""
    board = dashboard().build()
    # Links to a panel hold its number, so it must not depend on what Grafana makes up.
    for number, panel in enumerate(board.panels or [], start=1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2).encode(board) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
