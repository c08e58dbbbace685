"""The kinds of rule, by the name that stands in `kind = "…"`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from alerts.detector import Spike
from alerts.kind import Detector

KINDS: Final[Mapping[str, Detector]] = {"spike": Spike()}
