"""The last three quarters of an hour, as counted by the way, are those that counting again would find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import betabinom

from alerts.baseline import Baseline
from alerts.detector import Spike
from alerts.life import Life
from alerts.likelihood import tail
from alerts.rule import Rule
from alerts.run import Memory
from alerts.window import SLOT_S, SLOTS, WINDOW_S, Window
from tests import feed

RULE = Rule(name="r")
BEGIN_S = 1_800_000_000.0 // 3600 * 3600
gaps_s = st.one_of(st.floats(0, 200), st.floats(0, 9000))
items = st.lists(st.tuples(gaps_s, st.booleans()), min_size=1, max_size=80)


@given(items=items, offset_s=st.floats(0, 3600))
def test_a_window_counts_the_items_since_its_edge(items: list[tuple[float, bool]], offset_s: float) -> None:
    base, window, at_s, came = Baseline(), Window(), BEGIN_S + offset_s, []
    for gap_s, bad in items:
        at_s += gap_s
        before, base = base.hour, base.at(at_s, RULE.half_life_s, held=False)
        if at_s >= window.until_s:
            window = window.turned(before, base.hour, at_s)
        came.append((at_s, bad, base.share))
        base = base.counted(bad=bad, held=False)
        edge_s = at_s // SLOT_S * SLOT_S - WINDOW_S
        counts = window.counts(base.hour, at_s)
        if edge_s < came[0][0] // SLOT_S * SLOT_S:
            assert counts is None
            continue
        inside = [one for one in came if one[0] >= edge_s]
        assert counts is not None
        assert counts[:2] == (sum(bad for _, bad, _ in inside), len(inside))
        assert counts[2] == pytest.approx(sum(share for _, _, share in inside))
        assert len(window.full) == SLOTS


@given(rate=st.floats(0.1, 500), gaps_s=st.lists(st.floats(0.1, 5000), min_size=3, max_size=60))
def test_the_expected_items_are_the_rate_over_the_windows_time(rate: float, gaps_s: list[float]) -> None:
    hour = Baseline().at(BEGIN_S, RULE.half_life_s, held=False).hour._replace(rate=rate)
    window, at_s = Window(), BEGIN_S
    for gap_s in gaps_s:
        at_s += gap_s
        before, hour = hour, hour._replace(number=int(at_s // 3600))
        if at_s >= window.until_s:
            window = window.turned(before, hour, at_s)
        counts = window.counts(hour, at_s)
        if counts is not None:
            assert counts[3] == pytest.approx(rate * (at_s - (at_s // SLOT_S * SLOT_S - WINDOW_S)) / 3600)


@given(lasted_s=st.floats(0, 50_000), gap_s=st.floats(0, 200_000))
def test_after_an_incident_as_much_time_is_left_out_as_it_lasted(lasted_s: float, gap_s: float) -> None:
    window, hour = Window.after(BEGIN_S, BEGIN_S + lasted_s), Baseline().hour
    at_s = BEGIN_S + lasted_s + gap_s
    if at_s >= window.until_s:
        window = window.turned(hour, hour, at_s)
    assert window.counts(hour, at_s) is None
    assert (window.negative >= 0) == (gap_s >= lasted_s or at_s >= BEGIN_S + 2 * lasted_s)


@settings(deadline=None)
@given(items=items, cut=st.integers(0, 80))
def test_a_memory_that_was_stored_in_between_goes_on_as_if_it_had_not(
    items: list[tuple[float, bool]], cut: int
) -> None:
    detector, at_s, life = Spike(), BEGIN_S, Life()
    kept = stored = Memory(baseline=Baseline(a=500, b=2000, items=2000, last_s=BEGIN_S))
    for number, (gap_s, bad) in enumerate(items):
        at_s += gap_s
        sample = feed.sample(number, 0, negative=bad)
        kept, one = detector.observe(kept, RULE, sample, at_s, life)
        if number >= cut:
            stored = detector.load(detector.dump(stored))
        stored, other = detector.observe(stored, RULE, sample, at_s, life)
        assert (stored, other) == (kept, one)


def exact(negative: int, total: int, mean: float, strength: float) -> float:
    """The tail summed term by term; scipy's own is 1 less the rest, which leaves nothing of a small one."""
    terms = betabinom.logpmf(np.arange(negative, total + 1), total, strength * mean, strength * (1 - mean))
    return float(logsumexp(terms))


@given(total=st.integers(1, 3000), part=st.floats(0, 1), mean=st.floats(0.002, 0.98), strength=st.floats(1.5, 5000))
def test_the_tail_is_bounded_from_above(total: int, part: float, mean: float, strength: float) -> None:
    negative = round(part * total)
    assert tail(negative, total, mean, strength) >= exact(negative, total, mean, strength) - 1e-6


def test_the_bound_is_close_where_it_matters() -> None:
    for negative, total in ((15, 24), (60, 120), (290, 600)):
        chance = exact(negative, total, 0.25, 70)
        assert chance < -6
        assert tail(negative, total, 0.25, 70) == pytest.approx(chance, abs=0.1)
