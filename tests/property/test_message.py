"""E-mail of any bytes becomes an item, or is known not to be feedback; quotes of any depth go."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.connector import Item
from connectors.mail.message import MAX_TEXT, NotFeedback, item, new_words

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HEADERS = st.sampled_from(
    ["From", "Date", "Subject", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "References"]
)
VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["text/html; charset=utf-7", "multipart/mixed; boundary=b", "base64", "<>", "=?utf-8?q?=ff?=", "((((", "a@b,"]
    ),
)


@given(st.lists(st.tuples(HEADERS, VALUES), max_size=6), st.binary(max_size=400))
def test_any_message_is_an_item_or_is_known_not_to_be_feedback(headers: list[tuple[str, str]], body: bytes) -> None:
    head = "".join(f"{name}: {value}\n" for name, value in headers).encode("utf-8", "surrogateescape")
    try:
        made = item(head + b"\n" + body, fallback_id="1.2", arrived=NOW)
    except NotFeedback:
        return
    assert isinstance(made, Item) and made.external_id and len(made.text) <= MAX_TEXT + 1_000


@given(st.text("abc дўў!?\n", max_size=60), st.text(max_size=60))
def test_what_is_quoted_never_remains_and_what_is_new_does(new: str, old: str) -> None:
    quoted = "".join(f"> {line}\n" for line in old.splitlines())
    assert new_words(f"{new}\n{quoted}") == new_words(new)


@pytest.mark.parametrize(
    "introduction",
    [
        "On Tue, 24 Nov 2026 at 10:00, Support <s@example.com> wrote:",
        "On Tue, 24 Nov 2026,\nSupport wrote:",
        "вт, 24 нояб. 2026 г. в 10:00, Поддержка <s@example.com> пишет:",
        "24-noyabr, 2026, Yordam yozdi:",
        "24 Kas 2026 Sal, Destek şunu yazdı:",
        "Am Di., 24. Nov. 2026 um 10:00 Uhr schrieb Support <s@example.com>:",
        "El mar, 24 nov 2026 a las 10:00, Soporte escribió:",
        "Le mar. 24 nov. 2026 à 10:00, Support a écrit :",
        "Il giorno mar 24 nov 2026 Supporto ha scritto:",
        "Em ter., 24 de nov. de 2026, Suporte escreveu:",
    ],
)
def test_the_introduction_of_a_quote_goes_in_each_of_our_languages(introduction: str) -> None:
    assert new_words(f"It never came.\n\n{introduction}\n> Sorry") == "It never came."
