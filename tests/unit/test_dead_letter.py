"""The fuse: a stage that can read almost nothing stops before it has emptied its topic."""

from __future__ import annotations

import pytest

from pipeline.dead_letter import Fuse, FuseBlown


def test_some_poison_among_good_records_never_blows_it() -> None:
    fuse = Fuse(0.5, 100)
    for _ in range(1000):
        fuse.record(10, 5)


def test_a_flood_blows_it_once_enough_records_were_seen() -> None:
    fuse = Fuse(0.5, 100)
    for _ in range(9):
        fuse.record(10, 10)
    with pytest.raises(FuseBlown, match=r"100 of the last 100 records.*ovoz dead"):
        fuse.record(10, 10)


def test_few_records_do_not_blow_it_however_bad() -> None:
    Fuse(0.5, 100).record(99, 99)


def test_one_batch_alone_can_blow_it() -> None:
    with pytest.raises(FuseBlown):
        Fuse(0.5, 100).record(256, 200)


def test_good_records_of_long_ago_do_not_hide_a_flood() -> None:
    fuse = Fuse(0.5, 100)
    fuse.record(100_000, 0)
    for _ in range(9):
        fuse.record(10, 10)
    with pytest.raises(FuseBlown):
        fuse.record(10, 10)


def test_poison_of_long_ago_is_forgotten() -> None:
    fuse = Fuse(0.5, 100)
    fuse.record(90, 90)
    fuse.record(110, 0)
    for _ in range(100):
        fuse.record(10, 4)


def test_its_memory_stays_small() -> None:
    fuse = Fuse(0.9, 100)
    for _ in range(10_000):
        fuse.record(1, 0)
    assert len(fuse._batches) <= 100


def test_empty_batches_are_nothing() -> None:
    Fuse(0.5, 1).record(0, 0)
