"""What the stages promise beside one another."""

import asyncio
import threading
from collections.abc import Sequence
from typing import cast

from benchmarks.keyword import KeywordClassifier
from models.classifier import Prediction
from pipeline.codec import decode_scored, encode_feedback
from pipeline.metrics import Labels, WorkerMetrics
from pipeline.settings import Settings
from pipeline.stages import ClassifyStage, Logs, Message
from pipeline.topics import Topics
from tests.store import feedback

SETTINGS = Settings()
TOPICS = Topics.of(SETTINGS.kafka)


class Slow(KeywordClassifier):
    """Holds the text `slow` back until another was classified."""

    def __init__(self) -> None:
        super().__init__()
        self.other = threading.Event()

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        if "slow" in texts:
            assert self.other.wait(10)
        else:
            self.other.set()
        return super().classify(texts, languages)


def test_batches_are_written_in_their_order_though_the_second_is_classified_first() -> None:
    written: list[str] = []

    async def send(topic: str, key: bytes | None, value: bytes, partition: int | None) -> None:
        assert topic == TOPICS.scored.name
        written.extend(item.feedback.external_id for item in decode_scored(value))

    async def run() -> None:
        logs = cast(Logs, {TOPICS.raw.name: "life-1"})
        stage = ClassifyStage(SETTINGS, Slow(), send, logs, WorkerMetrics(Labels()))
        batches = [
            [Message(TOPICS.raw.name, 0, offset, b"k", encode_feedback(feedback(name, text=name)))]
            for offset, name in enumerate(("slow", "quick", "last"))
        ]
        await asyncio.gather(*(stage.handle(TOPICS.raw.name, batch) for batch in batches))

    asyncio.run(run())
    assert written == ["slow", "quick", "last"]
