"""*Voice of the customer*: what customers say now, against what is usual; where, and in which language."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import (
    bars,
    board,
    by_sentiment,
    lines,
    number,
    quotes_link,
    quotes_variable,
    rows,
    section,
    stacks,
    values_variable,
    window_variable,
)

UID: Final = "voice-of-the-customer"
PICKED: Final = 'source=~"$source", topic=~"$topic"'
WINDOW: Final = 'window="$window"'
USUAL: Final = "[7d:1m]"
"""Usual is the mean of the last seven days, looked at every minute."""


def share(by: str, window: str, picked: str = PICKED, metric: str = "feedback_window_items") -> str:
    """Negative share by a label, in a window; unsure items are in the denominator."""
    negative = f'sum by ({by}) ({metric}{{{picked}, window="{window}", sentiment="negative"}})'
    # A topic without a negative item has a share of 0, and not none.
    whole = f'sum by ({by}) ({metric}{{{picked}, window="{window}"}})'
    return f"({negative} or {whole} * 0) / {whole}"


def score(by: str) -> str:
    """Mean score: of each worker's means, weighted by the items behind them."""
    shared = "instance, job, source, topic, window"
    items = f"sum by ({shared}) (feedback_window_items{{{PICKED}, {WINDOW}}})"
    weighted = f"feedback_sentiment_score{{{PICKED}, {WINDOW}}} * on ({shared}) {items}"
    return f"sum by ({by}) ({weighted}) / sum by ({by}) (feedback_window_items{{{PICKED}, {WINDOW}}})"


def share_by_touchpoint() -> str:
    """Negative share of what was counted within a window; touchpoints of which nothing was are left out."""
    whole = "sum by (touchpoint) (increase(feedback_touchpoint_scored_total[$window]))"
    negative = whole.replace("[", '{sentiment="negative"}[')
    return f"({negative} or {whole} * 0) / ({whole} > 0)"


def dashboard() -> Dashboard:
    """See the module."""
    about = "What customers say now, against what is usual: by topic, source, language, channel and touchpoint."
    made = board("Voice of the customer", UID, about, refresh="30s")
    made.with_variable(values_variable("source", "Source", "label_values(feedback_items, source)"))
    made.with_variable(values_variable("topic", "Topic", "label_values(feedback_items, topic)"))
    made.with_variable(window_variable()).with_variable(quotes_variable()).link(quotes_link())

    overall = f'sum(feedback_window_items{{{PICKED}, {WINDOW}, sentiment="negative"}})'
    overall = f"({overall} or vector(0)) / sum(feedback_window_items{{{PICKED}, {WINDOW}}})"
    usual = f"avg_over_time(({share('topic', '$window')}){USUAL})"
    section(
        made, "Now, against usual",
        number("Items", "Live items of the chosen window, by event time.", "short",
               f"sum(feedback_window_items{{{PICKED}, {WINDOW}}})"),
        number("Negative share", "Of all items of the window; unsure ones are in the denominator.", "percentunit",
               overall, alarm=0.5),
        number("Alerts about customers", "Firing now; the Alert desk has them.", "short",
               "sum(feedback_alert_active) or vector(0)", alarm=1),
        number("Sources heard in the last hour", "Sources of which an item was counted.", "short",
               "count(time() - max by (source) (feedback_source_last_success_timestamp_seconds) < 3600) or vector(0)",
               alarm=1, below=True),
        bars("Negative share by topic: now and usual",
             "Share of negative items in the chosen window, beside the mean of the last seven days.", "percentunit",
             (share("topic", "$window"), "{{topic}} · now"), (usual, "{{topic}} · usual")).min(0).max(1)
        .data_links([quotes_link(topic="__field.labels.topic")]),
        rows("What changed", "Topics whose negative share is above usual, and by how much; worst first.", "percentunit",
             f"sort_desc(({share('topic', '$window')}) - ({usual}) > 0.02)", ("Time",))
        .data_links([quotes_link(topic="__data.fields.topic")]),
    )  # fmt: skip

    section(
        made, "Over time",
        lines("Negative share by topic", "Share of negative items in the chosen window.", "percentunit",
              (share("topic", "$window"), "{{topic}}")).min(0).max(1),
        lines("Score by source", "Mean score in the chosen window: −1 is negative, 1 is positive.", "none",
              (score("source"), "{{source}}")).min(-1).max(1).decimals(2),
        lines("Items counted, by channel", "Items counted for the first time, a second.", "cps",
              ('sum by (channel) (rate(feedback_scored_total{source=~"$source", topic=~"$topic"}[$__rate_interval]))',
               "{{channel}}"), stacked=True),
        by_sentiment(lines(
            "Live items by sentiment", "All items within retention, exact: edits replaced, deletions taken off.",
            "short", (f"sum by (sentiment) (feedback_items{{{PICKED}}})", "{{sentiment}}"), stacked=True,
        )),
    )  # fmt: skip

    everywhere = 'channel=~".*"'
    section(
        made, "Where, and in which language",
        by_sentiment(stacks(
            "Items by topic and sentiment", "Live items of the chosen window.", "short",
            f"sum by (topic, sentiment) (feedback_window_items{{{PICKED}, {WINDOW}}})", "topic", "sentiment",
        )),
        bars("Negative share by source", "Share of negative items in the chosen window.", "percentunit",
             (share("source", "$window"), "{{source}}")).min(0).max(1)
        .data_links([quotes_link(source="__field.labels.source")]),
        bars("Negative share by language", "Of all sources and topics; und is a language that is not known.",
             "percentunit", (share("language", "$window", everywhere, "feedback_language_items"), "{{language}}"))
        .min(0).max(1).data_links([quotes_link(language="__field.labels.language")]),
        bars("Negative share by channel", "Reviews, chat, social posts, e-mail, surveys; of all sources and topics.",
             "percentunit", (share("channel", "$window", everywhere, "feedback_language_items"), "{{channel}}"))
        .min(0).max(1).data_links([quotes_link(channel="__field.labels.channel")]),
        bars("Negative share by touchpoint", "Where in the customer's journey, as far as sources tell; of what was "
             "counted within the chosen window.", "percentunit", (share_by_touchpoint(), "{{touchpoint}}"))
        .min(0).max(1).data_links([quotes_link(touchpoint="__field.labels.touchpoint")]),
        bars("Time since each source was last heard", "A source that went quiet is not a calm one.", "s",
             ('time() - max by (source) (feedback_source_last_success_timestamp_seconds{source=~"$source"})',
              "{{source}}")),
        bars("Not heard within the window", "How much of the chosen window lies in gaps of a source: an outage of its "
             "connector, or of ours. Counts of it are too low.", "s",
             (f'max by (source) (feedback_window_missing_seconds{{source=~"$source", {WINDOW}}})', "{{source}}"))
        .span(24).height(6),
        rows("Worst now", "Source and topic with the most negative items; each row links to the worst of the "
             "customers' own words, as does the top of the page.", "short",
             f'topk(10, sum by (source, topic) (feedback_window_items{{{PICKED}, {WINDOW}, sentiment="negative"}}))',
             ("Time",))
        .span(24).data_links([quotes_link(source="__data.fields.source", topic="__data.fields.topic")]),
    )  # fmt: skip
    return made
