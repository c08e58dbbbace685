"""Identity of alerts, and what becomes of customers' words."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alerts.alert import Quote, fingerprint, incident
from alerts.quotes import KEPT, MAX_CHARS, alike, clean, harmless, pick, quote, remember
from alerts.wording import _query
from pipeline.metrics import WORKER
from tests import feed

ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=400)


def test_the_fingerprint_is_the_same_in_every_release() -> None:
    labels = (("severity", "warning"), ("topic", "delivery"))
    mark = fingerprint("negative-spike", "default", labels)
    assert mark == "f84a13544f5a41c2d503ec0c855471da"
    assert mark == fingerprint("negative-spike", "default", labels[::-1])
    assert mark != fingerprint("negative-spike", "other", labels)
    assert incident(mark, feed.START) == "8c2a19250c02beda1b060c9204cf2286"


@given(text=ANY)
@example("\ud800\x00\u202e" * 500)
def test_clean_text_is_one_short_printable_line(text: str) -> None:
    out = clean(text)
    assert len(out) <= MAX_CHARS
    assert not [c for c in out if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert out == out.strip() == clean(out)
    out.encode()


def test_no_mark_that_turns_or_hides_text_survives() -> None:
    codes = [0xAD, 0x61C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
    marks = "".join(map(chr, codes))
    assert clean("".join(f"a{mark}" for mark in marks)) == "a " * (len(marks) - 1) + "a"
    assert clean("\N{ZERO WIDTH JOINER}".join("👩💻")) == "👩\N{ZERO WIDTH JOINER}💻", "some scripts and emoji need it"


def test_quotes_shown_are_the_newest_with_one_of_each_source_and_language_first() -> None:
    def one(number: int, source: str, language: str) -> Quote:
        return Quote(feedback_id=f"{number}", source=source, language=language, text=f"said {number}",
                     at=feed.START + timedelta(minutes=number))  # fmt: skip

    held = (one(1, "mail", "ru"), one(2, "app", "uz"), *(one(number, "app", "en") for number in range(3, 9)))
    assert [quote.text for quote in pick(held, 5)] == ["said 8", "said 7", "said 6", "said 2", "said 1"]
    assert [quote.text for quote in pick(held, 2)] == ["said 8", "said 2"]
    assert pick((), 5) == ()


@given(text=ANY)
def test_harmless_text_holds_no_markup(text: str) -> None:
    out = harmless(clean(text))
    assert not set("<>&`\\") & set(out)
    assert "://" not in out and "](" not in out
    assert "@" not in out.replace("@\u200b", "")


def test_harmless_text_reads_the_same() -> None:
    assert harmless("Оплата прошла 2 раза, верните деньги!") == "Оплата прошла 2 раза, верните деньги!"
    assert harmless("costs 3.50 a@b.uz").replace("\u200b", "") == "costs 3.50 a@b.uz"


def test_long_text_is_cut_with_a_mark() -> None:
    assert clean("a" * 281) == "a" * 279 + "…"
    assert clean("a" * 280) == "a" * 280


@pytest.mark.parametrize(
    ("series", "metric"),
    [
        ((), "feedback_window_items"),
        ((("customer", "acme"),), "feedback_window_items"),
        ((("topic", "delivery"),), "feedback_window_items"),
        ((("topic", "delivery"), ("touchpoint", "door"), ("language", "ru")), "feedback_window_items"),
        ((("language", "ru"),), "feedback_language_items"),
        ((("channel", "chat"), ("language", "uz-Cyrl")), "feedback_language_items"),
        ((("touchpoint", 'the "door"\\'),), "feedback_touchpoint_scored_total"),
    ],
)
def test_the_query_of_an_alert_names_a_metric_and_labels_that_a_worker_shows(
    series: tuple[tuple[str, str], ...], metric: str
) -> None:
    query = _query(series)
    (shown,) = [one for one in WORKER if one.name == metric]
    asked = dict(re.findall(r'(\w+)=("(?:[^"\\\\]|\\\\.)*")', query))
    assert metric in query and asked.keys() <= set(shown.labels) and "sentiment" in shown.labels
    for name, value in series:
        assert name not in asked or json.loads(asked[name]) == value
    assert ("window" in asked) is ("window" in shown.labels)


def test_alike_sees_through_numbers_case_and_marks() -> None:
    assert alike("Order #4711 never came!!", "ORDER 99 never came")
    assert alike("5", "5") and not alike("5", "6")
    assert not alike("the courier was late", "the app charged me twice")


def test_an_edit_replaces_the_quote_and_old_ones_fall_out() -> None:
    item = feed.sample(1, 1, negative=True, text="where is it")
    edited = replace(item, text="it came broken in two")
    assert [q.text for q in remember(remember((), item), edited)] == ["it came broken in two"]
    assert remember((), replace(item, text="\x00 \n")) == ()
    kept: tuple[Quote, ...] = (quote(item),)
    for number in range(2, 30):
        kept = remember(kept, feed.sample(number, number, negative=True, text=chr(96 + number) * 5))
    assert len(kept) <= KEPT and kept[-1].text[0] == chr(96 + 29)
