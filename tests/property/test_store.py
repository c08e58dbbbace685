"""The store on SQLite through any life: batches, redelivery, edits, deletions, pruning, new lives of a topic."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.fold import AFTER_DELETION
from pipeline.records import Scored
from pipeline.store.engine import connect, prepare
from pipeline.windows import minute_of
from tests.store import NOW, RETENTION, arrival, books, scored, store_on

TALKS = {"a": "x", "b": "x", "c": "y"}


class Life(RuleBasedStateMachine):
    """Whatever happens, cells, recount, totals and the newest versions agree."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="ovoz-life-")
        self.engine = connect(f"sqlite:///{Path(self.folder.name)}/ovoz.db")
        prepare(self.engine)
        self.store = store_on(self.engine)
        self.log: list[list[Scored]] = []
        self.life, self.reached = 1, 0
        self.now = NOW
        self.floor = minute_of(NOW - RETENTION)
        self.newest: dict[str, Scored] = {}
        self.expires: dict[str, int] = {}
        self.texts: dict[tuple[str, int], Scored] = {}

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    @rule(
        record=st.lists(
            st.tuples(
                st.sampled_from("abcdef"),
                st.integers(0, 5),
                st.sampled_from(["negative", "positive", "unsure"]),
                st.integers(0, 2 * 24 * 60 + 60),
                st.booleans(),
            ),
            max_size=5,
        )
    )
    def deliver(self, record: list[tuple[str, int, str, int, bool]]) -> None:
        items = []
        for name, version, mood, age, gone in record:
            spoken = self.now - NOW - timedelta(minutes=age)
            made = scored(
                name,
                version,
                mood=mood,
                created_at=NOW + spoken,
                received_at=self.now,
                deleted=gone and age % 3 == 0,
                conversation_id=TALKS.get(name),
            )
            items.append(self.texts.setdefault((name, version), made))
        self.log.append(items)
        self.fold(len(self.log) - 1, len(self.log))

    @rule(talk=st.sampled_from("xy"), version=st.integers(1, 9), age=st.integers(0, 3 * 24 * 60))
    def delete_a_conversation(self, talk: str, version: int, age: int) -> None:
        made = scored(
            f"{talk}:deleted", version, conversation_id=talk, turn="deleted", text="",
            created_at=self.now - timedelta(minutes=age), received_at=self.now,
        )  # fmt: skip
        self.log.append([self.texts.setdefault((f"{talk}:deleted", version), made)])
        self.fold(len(self.log) - 1, len(self.log))

    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.log)))
        self.fold(start, data.draw(st.integers(start, len(self.log))))

    @rule()
    def begin_a_new_life_with_everything_sent_again(self) -> None:
        self.life, self.reached = self.life + 1, 0
        self.store.claim(f"life-{self.life}", "feedback.scored", {0}, "me")
        self.fold(0, len(self.log))

    @rule(hours=st.integers(1, 30))
    def let_time_pass_and_prune(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.store.prune("default", (f"life-{self.life}", 0), now=self.now)
        if self.newest:
            self.floor = max(self.floor, minute_of(self.now - RETENTION))
        for name in [name for name, minute in self.expires.items() if minute < self.floor]:
            # Nothing is known any more of what is past retention: an old version would be the first.
            del self.newest[name], self.expires[name]

    def fold(self, start: int, stop: int) -> None:
        batch = [arrival(n, *self.log[n], log=f"life-{self.life}") for n in range(start, stop)]
        if not batch:
            return
        if not self.newest and any(a.scored for a in batch):
            self.floor = minute_of(self.now - RETENTION)
        self.store.fold(batch, now=self.now)
        for one in batch[max(0, self.reached - start) :]:
            for item in one.scored:
                held = self.newest.get(item.feedback.external_id)
                if held is None or held.feedback.version < item.feedback.version:
                    self.newest[item.feedback.external_id] = item
                    spoken = minute_of(item.feedback.created_at)
                    counts = not item.feedback.deleted and spoken >= self.floor
                    last = spoken if counts else minute_of(item.feedback.received_at)
                    if item.feedback.turn is not None:
                        last = minute_of(item.feedback.received_at + AFTER_DELETION)
                    self.expires[item.feedback.external_id] = max(
                        last, self.expires.get(item.feedback.external_id, last)
                    )
        self.reached = max(self.reached, stop)

    def taken_back(self, item: Scored) -> bool:
        ended = self.newest.get(f"{item.feedback.conversation_id}:deleted")
        return ended is not None and item.feedback.created_at <= ended.feedback.received_at + AFTER_DELETION

    @invariant()
    def everything_agrees(self) -> None:
        live = [
            item
            for item in self.newest.values()
            if not item.feedback.deleted
            and minute_of(item.feedback.created_at) >= self.floor
            and item.feedback.turn is None
            and not self.taken_back(item)
        ]
        assert sum(count for count, _ in books(self.engine).values()) == len(live)


Life.TestCase.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife = Life.TestCase
