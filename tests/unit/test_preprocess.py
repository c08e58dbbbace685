import time

import pytest

from models.preprocess import HEAD_CHARS, TAIL_CHARS, clean, has_picture, script
from models.uzbek import to_cyrillic


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("  a\t\nb  ", "a b"),
        ("see https://x.y/z?q=1 now", "see http now"),
        ("WWW.EXAMPLE.COM www.a.b", "http http"),
        ("@some.one hi, me@there.org", "@user hi, me@there.org"),
        ("zo‘r gʻoz soʼz ta`m", "zo'r g'oz so'z ta'm"),
        ("sooooooo goooood!!!!!!", "sooo goood!!!"),
        ("10000000", "10000000"),
        ("a\u200bb\ufeff\x00\ud800c", "abc"),
        ("e\u0301", "é"),
        ("👩‍🚒", "👩‍🚒"),
        ("", ""),
    ],
)
def test_clean(raw: str, read: str) -> None:
    assert clean(raw) == read


def test_long_text_keeps_both_ends() -> None:
    cleaned = clean("begin " + "middle " * 200_000 + "end")
    assert cleaned.startswith("begin")
    assert cleaned.endswith("end")
    assert len(cleaned) <= HEAD_CHARS + TAIL_CHARS + 1


def test_a_megabyte_costs_no_more_than_its_ends() -> None:
    started = time.perf_counter()
    clean("ў" * 1_000_000)
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("hello", "Latn"),
        ("çok güzel", "Latn"),
        ("привет", "Cyrl"),
        ("ok, всё отлично", "Cyrl"),
        ("北京 ok", "Latn"),
        ("北京外卖", "Zzzz"),
        ("123 😡", "Zyyy"),
        ("", "Zyyy"),
    ],
)
def test_script(text: str, code: str) -> None:
    assert script(text) == code


@pytest.mark.parametrize("text", ["😡", "ok :)", ":-(", "))))", "👍🏽", "❤"])
def test_picture(text: str) -> None:
    assert has_picture(text)


@pytest.mark.parametrize("text", ["", "12:30", "(a)", "50%", "?!"])
def test_no_picture(text: str) -> None:
    assert not has_picture(text)


@pytest.mark.parametrize(
    ("latin", "cyrillic"),
    [
        ("O'zbekiston", "Ўзбекистон"),
        ("g'alaba", "ғалаба"),
        ("Shahar choyxona", "Шаҳар чойхона"),
        ("yo'q", "йўқ"),
        ("yaxshi", "яхши"),
        ("eshik ochiq emas", "эшик очиқ эмас"),
        ("kelmadi", "келмади"),
        ("ma'no", "маъно"),
        ("@user http rahmat", "@user http раҳмат"),
        ("YO'Q", "ЙЎҚ"),
        ("5 kun", "5 кун"),
    ],
)
def test_uzbek_in_cyrillic(latin: str, cyrillic: str) -> None:
    assert to_cyrillic(latin) == cyrillic
