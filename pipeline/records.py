"""The records that travel between stages. All frozen; times are UTC; units stand in the names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from connectors.feedback import Feedback
from models.classifier import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPosition:
    """Where a record stood in `feedback.raw`: `log` names one life of the topic (see bus.log_identity)."""

    log: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One feedback with its prediction and the place of the raw record it was made from.

    What does not speak (see Feedback.speaks) needs no model: its `prediction` is None.
    """

    feedback: Feedback
    prediction: Prediction | None
    raw: RawPosition
    scored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Something unreadable, kept whole.

    `dead_id` is its identity: the same record dead-lettered twice is one entry. `raw` is set where it
    stood in `feedback.raw`; otherwise `origin` says where it came from (`file:NAME:LINE`).
    """

    dead_id: str
    stage: str
    reason: str
    detail: str
    payload: bytes
    failed_at: datetime
    origin: str
    key: bytes | None = None
    raw: RawPosition | None = None
