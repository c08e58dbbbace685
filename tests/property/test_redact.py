"""No address, number or handle survives, wherever it stands; what is none of them stays."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.redact import Redactor
from pipeline.settings import Privacy

KEY = b"k" * 32
SAFE = Redactor(Privacy(), KEY)
HASHED = Redactor(Privacy(emails="hash", phones="hash", cards="hash", handles="hash"), KEY)
KEPT = Redactor(
    Privacy(emails="keep", phones="keep", cards="keep", handles="keep", customer_ids="keep", urls="keep"), KEY
)

DIGITS = st.integers(1_000_000, 9_999_999).map(str)
UZBEK = st.sampled_from(["90", "91", "93", "94", "97", "98", "99", "88", "33"])
WORDS = st.sampled_from(
    ["", "Курьер не приехал, ", "Buyurtma kelmadi: ", "late again — ", "«", "\n", "😡 ", "№ 12345; "]
)
AFTER = st.sampled_from(["", ".", ", rahmat", "!", "»", "\n", " 😡", ") — позвоните"])


def formatted(number: str, form: int) -> str:
    """Nine digits as people in Uzbekistan write them."""
    a, b, c, d = number[:2], number[2:5], number[5:7], number[7:]
    return [
        f"+998{number}", f"+998 {a} {b} {c} {d}", f"+998 ({a}) {b}-{c}-{d}", f"998{number}", f"{a} {b} {c} {d}",
        f"({a}) {b}-{c}-{d}", f"{a}-{b}-{c}-{d}", number, f"+998\u00a0{a}\u00a0{b}\u00a0{c}\u00a0{d}",
        f"{a}.{b}.{c}.{d}",
    ][form]  # fmt: skip


def russian(number: str, form: int) -> str:
    """Seven digits after 903 as people in Russia write them."""
    a, b, c = number[:3], number[3:5], number[5:]
    return [
        f"+7903{number}", f"8903{number}", f"8 (903) {a}-{b}-{c}", f"+7 (903) {a} {b} {c}", f"8-903-{a}-{b}-{c}",
        f"7 903 {a} {b} {c}",
    ][form]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(WORDS, st.tuples(UZBEK, DIGITS), st.integers(0, 9), AFTER)
def test_uzbek_numbers_are_taken_out_in_every_format(
    before: str, number: tuple[str, str], form: int, after: str
) -> None:
    assert SAFE.text(f"{before}{formatted(''.join(number), form)}{after}") == f"{before}[phone]{after}"


@settings(max_examples=300, deadline=None)
@given(WORDS, DIGITS, st.integers(0, 5), AFTER)
def test_russian_numbers_are_taken_out_in_every_format(before: str, number: str, form: int, after: str) -> None:
    assert SAFE.text(f"{before}{russian(number, form)}{after}") == f"{before}[phone]{after}"


def with_check_digit(start: str, length: int) -> str:
    """A card number that begins like this (ISO/IEC 7812-1, annex B)."""
    body = start.ljust(length - 1, "7")[: length - 1]
    total = 0
    for place, one in enumerate(reversed(body)):
        number = int(one) * (1 if place % 2 else 2)
        total += number - 9 if number > 9 else number
    return body + str(-total % 10)


@settings(max_examples=300, deadline=None)
@given(
    WORDS,
    st.one_of(
        st.integers(10**11, 10**12 - 1).map(lambda n: f"8600{n}"),
        st.integers(10**11, 10**12 - 1).map(lambda n: f"9860{n}"),
        st.integers(10**9, 10**10 - 1).map(lambda n: with_check_digit(f"2202{n}", 16)),
        st.integers(10**9, 10**10 - 1).map(lambda n: with_check_digit(f"4{n}", 16)),
        st.integers(10**9, 10**10 - 1).map(lambda n: with_check_digit(f"34{n}", 15)),
        st.integers(10**9, 10**10 - 1).map(lambda n: with_check_digit(f"2201{n}", 19)),
    ),
    st.sampled_from(["", " ", "-", "\u00a0"]),
    AFTER,
)
def test_cards_are_taken_out(before: str, number: str, gap: str, after: str) -> None:
    shown = gap.join(number[at : at + 4] for at in range(0, len(number), 4))
    assert SAFE.text(f"{before}{shown}{after}") == f"{before}[card]{after}"


NAMES = st.from_regex(r"[a-z][a-z0-9_]{1,20}[a-z0-9]", fullmatch=True)


@settings(max_examples=200, deadline=None)
@given(WORDS, NAMES, st.sampled_from(["mail.ru", "gmail.com", "почта.рф", "a.b.co.uz"]), AFTER)
def test_addresses_and_handles_are_taken_out(before: str, name: str, domain: str, after: str) -> None:
    assert SAFE.text(f"{before} {name}@{domain}{after}") == f"{before} [email]{after}"
    assert SAFE.text(f"{before} @{name}{after}") == f"{before} [handle]{after}"
    assert SAFE.text(f"{before} @{name}@mastodon.social{after}") == f"{before} [handle]{after}"
    assert SAFE.text(f"{before} https://t.me/{name} {after}") == f"{before} [handle] {after}"


ANY = st.text(st.sampled_from("0123456789 -()+@.aб/_u٣\u200b\n"), max_size=80) | st.text(max_size=80)


@settings(max_examples=500, deadline=None)
@given(ANY)
def test_what_is_clean_stays_clean(text: str) -> None:
    for redactor in (SAFE, HASHED):
        once = redactor.text(text)
        assert redactor.text(once) == once
    assert KEPT.text(text) == text
    if not any(one.isdigit() or one in "@/" for one in text):
        assert SAFE.text(text) == text


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | ANY.map(str.encode) | st.dictionaries(ANY, ANY).map(lambda d: json.dumps(d).encode()))
def test_any_payload_can_be_kept(payload: bytes) -> None:
    assert SAFE.payload(SAFE.payload(payload)) == SAFE.payload(payload)


@pytest.mark.parametrize(
    "text",
    [
        "Заказ 2026112500017 от 25.11.2026 14:30, 3 шт по 1 250 000 сум",
        "100 000 000 so'm, 900 000 000 сум, 990000000 UZS",
        "версия 10.4.17.2, адрес 192.168.1.20, ISO 8601",
        "Order 123456 of 2026-11-25, 10:45",
        "5 @ 3 pm and/or later; a/b u/x",
    ],
)
def test_dates_amounts_and_orders_stay(text: str) -> None:
    assert SAFE.text(text) == text


@pytest.mark.parametrize(
    "text",
    ["1 " * 5_000, "1234567 " * 1_250, "a@" * 5_000, "a.a@a." * 1_600, "9" * 10_000, "90 123 45 67 " * 770,
     "u/" * 5_000, "@" * 10_000, "%@-." * 2_500, "+" * 10_000, "t.me/" * 2_000],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    SAFE.text(text)
    assert time.process_time() - started < 0.5


def test_a_hash_is_the_same_for_the_same_person_and_another_with_another_key() -> None:
    mark = HASHED.text("write to Aziza@Mail.ru")
    assert mark == HASHED.text("write to aziza@mail.ru") and mark.startswith("write to [email:")
    assert mark != Redactor(Privacy(emails="hash"), b"x" * 32).text("write to aziza@mail.ru")


def test_authors_customers_and_addresses_follow_the_settings() -> None:
    assert SAFE.author(" Aziza ") == SAFE.author("Aziza") and len(SAFE.author("Aziza") or "") == 64
    assert Redactor(Privacy(authors="drop"), KEY).author("Aziza") is None
    assert SAFE.customer("c-9") == SAFE.customer("c-9") != "c-9"
    assert KEPT.customer("c-9") == "c-9" and SAFE.customer(None) is None
    assert SAFE.url("https://shop.example/r/1017") == "https://shop.example/r/1017"
    for named in ("https://m.example/@aziza/1", "https://x.com/aziza/status/1", "https://e.example/?to=a@b.uz"):
        assert SAFE.url(named) is None and KEPT.url(named) == named
    assert SAFE.url("https://forum.example/users/aziza/3", "@aziza@forum.example") is None


def test_a_dead_letter_keeps_its_shape_and_no_person() -> None:
    payload = {"id": 9, "author": {"displayName": "Aziza"}, "text": "call +998901234567", "tags": [["a@b.uz"]]}
    kept = json.loads(SAFE.payload(json.dumps(payload).encode()))
    assert kept == {"id": 9, "author": {"displayName": "[name]"}, "text": "call [phone]", "tags": [["[email]"]]}
    assert SAFE.payload(b'{"id":9}') == b'{"id":9}'
    assert SAFE.payload(b"\xff call 90 123 45 67") == b"\xff call [phone]"
    assert SAFE.payload(b"[" * 100_000)
