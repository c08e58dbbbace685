"""Near-duplicates: what is folded, what is not, and that it does not depend on batches or restarts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts import duplicates
from alerts.alert import Sample
from alerts.duplicates import SHINGLE, Recent, essence, minhashes, oldest_kept, resemblance
from tests import feed

LONG = "The courier threw my parcel over the fence and nobody at support wants to hear about it"
WORDS = st.lists(st.text("abcdeуфхцчğışö", min_size=2, max_size=9), min_size=12, max_size=40).map(" ".join)


def said(text: str, number: int = 1, *, author: str = "", minute: float = 1.0) -> Sample:
    return replace(feed.sample(number, minute, negative=True), text=text, author=author)


def marks(*texts: str, author: str = "") -> list[str]:
    recent = Recent()
    return [recent.mark(said(text, number, author=author)).copy_of for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    "again",
    [
        LONG,
        LONG.upper() + "!!!",
        f"RT @angry_customer: {LONG}",
        f"{LONG} https://t.example/x9 #never",
        LONG.replace("courier", "driver"),
        f"Order 4711: {LONG}",
        f"+1\n> {LONG}",
        f"Same here.\n\nOn Mon, 2 Nov 2026 at 10:00, Anna <a@b.example> wrote:\n> {LONG[:40]}\n> {LONG[40:]}",
    ],
)
def test_reposts_copies_and_mere_quotes_are_folded(again: str) -> None:
    assert marks(LONG, again) == ["", "shop::0"]


@pytest.mark.parametrize(
    "other",
    [
        "The courier was friendly but my parcel came two days late and the box was torn",
        f"I had the same with a fridge that never came although I paid twice, and they laughed\n> {LONG}",
        "Курьер бросил мою посылку через забор, и никто в поддержке не хочет об этом слышать",
    ],
)
def test_what_somebody_says_by_themselves_is_not(other: str) -> None:
    assert marks(LONG, other) == ["", ""]


def test_short_texts_of_many_people_are_many_voices_and_of_one_person_one() -> None:
    assert marks("does not work", "does not work") == ["", ""]
    assert marks("does not work", "Does NOT work!", author="a") == ["", "shop::0"]
    recent = Recent()
    assert recent.mark(said("does not work", 1, author="a")).copy_of == ""
    assert recent.mark(said("does not work", 2, author="b")).copy_of == ""
    assert marks("", " \n", "5", author="a") == ["", "", ""]


def test_a_text_of_last_week_is_new_again() -> None:
    recent = Recent()
    recent.mark(said(LONG, 1, minute=0))
    assert recent.mark(said(LONG, 2, minute=60 * 24 * 2)).copy_of == "shop::1"
    assert recent.mark(said(LONG, 3, minute=60 * 24 * 5)).copy_of == ""


@settings(max_examples=50, deadline=None)
@given(text=WORDS, other=WORDS)
def test_the_estimate_is_near_the_share_of_common_shingles(text: str, other: str) -> None:
    def shingles(of: str) -> set[str]:
        return {of[i : i + SHINGLE] for i in range(len(of) - SHINGLE + 1)}

    mixed = essence(f"{text} {other}")
    one, two = shingles(essence(text)), shingles(mixed)
    truth = len(one & two) / len(one | two)
    alone, together = minhashes([essence(text), mixed])
    assert resemblance(alone, together) == pytest.approx(truth, abs=0.3)
    assert [alone] == minhashes([essence(text)]) and [together] == minhashes([mixed])


def test_pairs_above_the_line_are_found_and_others_left_alone() -> None:
    dice = random.Random(1)
    words = ["".join(dice.choices("abcdefghijklmnop", k=dice.randint(3, 8))) for _ in range(3000)]
    found = {0.05: 0, 0.6: 0}
    for share in found:
        for _ in range(200):
            text = dice.sample(words, 25)
            edited = [dice.choice(words) if dice.random() < share else word for word in text]
            recent = Recent()
            recent.mark(said(" ".join(text), 1))
            found[share] += recent.mark(said(" ".join(edited), 2)).copy_of != ""
    assert found[0.05] >= 198
    assert found[0.6] == 0


@st.composite
def streams(draw: st.DrawFn) -> list[Sample]:
    texts = draw(st.lists(WORDS, min_size=1, max_size=4))
    samples = []
    for number in range(draw(st.integers(0, 40))):
        text = draw(st.sampled_from(texts))
        if draw(st.booleans()):
            text += draw(st.sampled_from(["!", " #1", " больше никогда", " " + texts[0]]))
        samples.append(said(text, number, author=draw(st.sampled_from(["", "a", "b"]))))
    return samples


@settings(max_examples=60, deadline=None)
@given(samples=streams(), cut=st.integers(0, 40))
def test_a_restart_from_what_was_kept_marks_the_same(samples: list[Sample], cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "GENERATION", 3)
        whole = Recent()
        expected = [whole.mark(sample) for sample in samples]
        first = Recent()
        got = [first.mark(sample) for sample in samples[:cut]]
        kept = [one for one in first.take_new() if first.last and one.number >= oldest_kept(first.last.number)]
        second = Recent(kept)
        got += [second.mark(sample) for sample in samples[cut:]]
        assert got == expected


@settings(max_examples=60, deadline=None)
@given(samples=streams())
def test_a_copy_names_an_original_that_came_before_it(samples: list[Sample]) -> None:
    recent, originals = Recent(), set()
    for sample in map(recent.mark, samples):
        assert sample.copy_of == "" or sample.copy_of in originals
        if not sample.copy_of:
            originals.add(sample.feedback_id)


def test_it_remembers_the_present_generation_and_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "GENERATION", 50)
    recent = Recent()
    for number in range(1, 500):
        dice = random.Random(number)
        recent.mark(said(feed.babble(dice, 9, 7), number))
        assert len(recent) == number - max(1, oldest_kept(number)) + 1
    assert oldest_kept(499) == 400
    assert sum(len(found) for index in recent._numbers for found in index.values()) == 100 * duplicates.BANDS


@given(text=st.text(st.characters(codec=None, exclude_categories=()), max_size=3000))
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_signature(text: str) -> None:
    assert len(duplicates.signatures([said(text, author="a")])[0]) in (0, 8, 256)
