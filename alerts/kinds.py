"""The kinds of rule, by the name that stands in `kind = "…"`; and the census, which no rule names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from alerts.brigade import Brigade
from alerts.census import KIND, Census
from alerts.daily import Goal, Trend
from alerts.detector import Spike, Volume
from alerts.kind import Detector
from alerts.novelty import NewTopic
from alerts.severe import Severe
from alerts.silence import Silence
from alerts.threshold import Threshold

KINDS: Final[Mapping[str, Detector]] = {
    "spike": Spike(),
    "volume": Volume(),
    "threshold": Threshold(),
    "severe": Severe(),
    "brigade": Brigade(),
    "silence": Silence(),
    "trend": Trend(),
    "goal": Goal(),
    "new_topic": NewTopic(),
    KIND: Census(),
}
