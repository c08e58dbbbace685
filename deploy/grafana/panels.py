"""The kinds of panels that our dashboards are made of.

Sums over workers are the truth, since each worker shows the partitions it owns. A mean is not: it is
weighted by the items behind it before it is added up.
"""

from __future__ import annotations

from typing import Final, TypeVar

from grafana_foundation_sdk.builders import barchart, bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    CustomVariable,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    TextBoxVariable,
    ThresholdsConfig,
)
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)

from pipeline.demo.paint import SENTIMENT

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG: Final = "ovoz"
RUNBOOK_TAG: Final = "ovoz-runbook"

Query = tuple[str, str]
"""A PromQL expression and the legend of its series."""
Panel = timeseries.Panel | stat.Panel | bargauge.Panel | barchart.Panel | table.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, bargauge.Panel)
C = TypeVar("C", timeseries.Panel, barchart.Panel)


def board(title: str, uid: str, about: str, *, refresh: str = "10s", since: str = "now-6h") -> Dashboard:
    """A dashboard with a choice of data source, links to the others, and firing alerts marked on every graph."""
    made = Dashboard(title).uid(uid).tags([TAG]).readonly().description(about)
    made.time(since, "now").refresh(refresh).timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    made.with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    made.link(
        DashboardLink("Ovoz").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(False).include_vars(True)
        .keep_time(True)
    )  # fmt: skip
    made.link(
        DashboardLink("Runbooks").type(DashboardLinkType.DASHBOARDS).tags([RUNBOOK_TAG]).as_dropdown(True)
    )  # fmt: skip
    alerts = AnnotationQuery().name("Alerts about customers").datasource(SOURCE).enable(True).icon_color("red")
    alerts.expr("sum by (rule, topic, severity) (feedback_alert_active) > 0")
    pipeline = AnnotationQuery().name("Alerts about the pipeline").datasource(SOURCE).enable(True).icon_color("orange")
    firing = 'ALERTS{component="pipeline", alertstate="firing", alertname!="OvozWatchdog"}'
    pipeline.expr(f"sum by (alertname, severity) ({firing})")
    return made.annotation(alerts).annotation(pipeline)


def section(made: Dashboard, title: str, *panels: Panel) -> None:
    """A row of the dashboard with its panels."""
    made.with_row(Row(title))
    for panel in panels:
        made.with_panel(panel)


def window_variable() -> CustomVariable:
    """Which window of event time *now* means."""
    hour = VariableOption(text="1h", value="1h", selected=True)
    return CustomVariable("window").label("Now").values("5m,1h,24h").current(hour)


def runbook_link() -> DashboardLink:
    """From an alert of a table to its page (deploy.grafana.runbooks)."""
    return DashboardLink("Runbook").type(DashboardLinkType.LINK).url("/d/${__data.fields.alertname}").target_blank(True)


def quotes_variable() -> TextBoxVariable:
    """Where a worker shows the customers' words: see `quotes_link`."""
    at = "http://127.0.0.1:9108"
    return TextBoxVariable("quotes").label("Quotes at").default_value(at).current(VariableOption(text=at, value=at))


def quotes_link(**picked: str) -> DashboardLink:
    """A link to the worst quotes of a window; `picked`: filters, with Grafana's words for what was clicked."""
    filters = "".join(f"&{name}=${{{value}}}" for name, value in picked.items())
    link = DashboardLink("Worst quotes").type(DashboardLinkType.LINK)
    link.url(f"${{quotes}}/quotes?window=${{window}}{filters}")
    return link.tooltip("In the customers' own words; needs a password").target_blank(True)


def values_variable(name: str, label: str, query: str) -> QueryVariable:
    """Some or all values of a label."""
    made = QueryVariable(name).label(label).query(query).datasource(SOURCE)
    return made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).include_all(True).all_value(".*")


def lines(title: str, about: str, unit: str, *queries: Query, stacked: bool = False) -> timeseries.Panel:
    """Curves over time."""
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = timeseries.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(12).height(8)
    panel.legend(legend.show_legend(True)).draw_style(GraphDrawStyle.LINE).fill_opacity(30 if stacked else 8)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return _targets(panel, queries, instant=False)


def bars(title: str, about: str, unit: str, *queries: Query) -> bargauge.Panel:
    """A bar a series, as it is now."""
    panel = bargauge.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(12).height(8)
    return _targets(panel, queries, instant=True)


def stacks(title: str, about: str, unit: str, query: str, row: str, part: str) -> barchart.Panel:
    """A bar for each value of the label `row`, of a part for each value of the label `part`, as it is now."""
    panel = barchart.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(12).height(8)
    panel.orientation(VizOrientation.HORIZONTAL).stacking(StackingMode.NORMAL)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel.legend(legend.show_legend(True))
    panel.with_target(prometheus.Dataquery().expr(query).instant().format("table").ref_id("A"))  # type: ignore[arg-type]
    options = {"rowField": row, "columnField": part, "valueField": "Value"}
    return panel.with_transformation(DataTransformerConfig(id_val="groupingToMatrix", options=options))


def by_sentiment(panel: C) -> C:
    """The panel in the colours that sentiments have in the demo."""
    for sentiment, colour in SENTIMENT.items():
        value = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(sentiment, [DynamicConfigValue(id_val="color", value=value)])
    return panel


def number(
    title: str, about: str, unit: str, query: str, *, alarm: float | None = None, below: bool = False
) -> stat.Panel:
    """One number; from `alarm` on, or below it, it is shown red. Nothing means zero: a counter with labels does not
    exist before its first event."""
    panel = stat.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(6).height(4).no_value("0")
    first, then = ("red", "green") if below else ("green", "red")
    steps = [Threshold(value=None, color=first if alarm is not None else "green")]
    if alarm is not None:
        steps.append(Threshold(value=alarm, color=then))
    panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return _targets(panel, ((query, title),), instant=True)


def rows(title: str, about: str, unit: str, query: str, hidden: tuple[str, ...]) -> table.Panel:
    """A table of series, their labels as columns but for the hidden ones."""
    panel = table.Panel().title(title).description(about).unit(unit).datasource(SOURCE).span(12).height(8)
    panel.with_target(prometheus.Dataquery().expr(query).instant().format("table").ref_id("A"))  # type: ignore[arg-type]
    options = {"excludeByName": dict.fromkeys(hidden, True)}
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=options))


def quantiles(metric: str, *which: float) -> tuple[Query, ...]:
    """Quantiles of a histogram over all processes."""
    rate = f"sum by (le) (rate({metric}_bucket[$__rate_interval]))"
    return tuple((f"histogram_quantile({one:g}, {rate})", f"p{one * 100:g}") for one in which)


def _targets(panel: P, queries: tuple[Query, ...], *, instant: bool) -> P:
    for index, (expression, legend) in enumerate(queries):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + index))
        panel.with_target(query.instant() if instant else query.range())
    return panel
