"""Writes docs/metrics.md from the table of metrics: `python -m deploy.document`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline.metrics import CONNECTOR, document

FILE: Final = Path(__file__).parents[1] / "docs" / "metrics.md"

BEFORE: Final = """\
# Metrics

Each worker answers `GET /metrics` in Prometheus' text format. This page is made from the table in
`pipeline/metrics.py` by `python -m deploy.document`; a test compares the two.

- **Sums over workers are the truth.** A worker shows the partitions it owns, so no item is shown twice:
  `sum by (topic) (feedback_items)` is exact, whatever number of workers runs.
- **Means are not sums.** `feedback_sentiment_score` is a mean; weight it by `feedback_window_items` when you
  add up workers, as the dashboard does.
- **`sentiment` is `negative`, `neutral`, `positive` or `unsure`**: unsure where the model finds none of them probable
  enough in the text's language. Unsure items are items: they are in every count and in the denominator of every
  share, so the negative share is what is known to be negative. Their scores are in the mean.
- **Numbers from the store are gauges**, read at scrape time. While the store is away they are absent, not zero.
- **Counters count what this process did** and begin at 0 with it; one with labels appears with its first event.
- **Labels are bounded.** Sources and topics beyond the limits of `[labels]` are shown as `other`, and
  `feedback_label_overflow_total` says how often. No label ever holds text, an author or an id.
- **Windows** are `5m`, `1h` and `24h` of event time, up to now.

"""

CONNECTORS: Final = """
## Connectors

`ovoz ingest` answers `GET /metrics` too; for each `[[connector]]` table it shows these beside those of the HTTP intake.

"""


def page() -> str:
    """The whole of docs/metrics.md."""
    return BEFORE + document() + CONNECTORS + document(CONNECTOR)


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
