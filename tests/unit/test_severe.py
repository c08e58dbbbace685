"""The kind `severe`: what one item must say, in each language, to be enough."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from alerts import severe
from alerts.alert import Sample
from alerts.engine import Engine
from alerts.rule import CONCERNS, Rule
from models.corpus import LANGUAGES
from tests import feed

PLAIN = feed.sample(1, 1, negative=True, text="The courier was late again")
CONCERNED = Rule(name="r", kind="severe", concerns=CONCERNS)


def said(text: str, **fields: object) -> Sample:
    return replace(PLAIN, **{"text": text, "language": "und", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "concern"),
    [
        ("The charger CAUGHT  fire while I slept!", "safety"),
        ("Провод загорелся, ребёнка ударило током", "safety"),
        ("Zaryadlagich yonib ketdi", "safety"),
        ("O‘tkir ovqatdan zaharlandim", "safety"),
        ("Зарядлагич ёниб кетди", "safety"),
        ("Das Kabel hat Feuer gefangen", "safety"),
        ("Mi hijo terminó en el hospital", "safety"),
        ("Le chargeur a pris feu", "safety"),
        ("Il caricatore ha preso fuoco", "safety"),
        ("O carregador pegou fogo", "safety"),
        ("Şarj aleti alev aldı", "safety"),
        ("You will hear from my lawyer", "legal"),
        ("Подаю на вас в суд", "legal"),
        ("Sizni sudga beraman", "legal"),
        ("Ich habe meinen Anwalt eingeschaltet", "legal"),
        ("after the update I lost all my data", "data_loss"),
        ("Все данные пропали после обновления", "data_loss"),
        ("We are switching to your competitor", "leaving"),
        ("Я ухожу к конкурентам", "leaving"),
        ("Ich kündige den Vertrag", "leaving"),
        ("Je vais résilier", "leaving"),
    ],
)
def test_plain_words_of_concern_are_found(text: str, concern: str) -> None:
    assert severe.reason(CONCERNED, said(text)) == concern


def test_words_of_another_language_do_not_count() -> None:
    assert severe.reason(CONCERNED, said("una demanda de amenazas", language="es")) == "safety"
    assert severe.reason(CONCERNED, said("a menacing brand, in brand new colours", language="en")) is None


@pytest.mark.parametrize(
    "text", ["The courier was late again", "Всё дошло быстро, спасибо", "great brandy", "судно красивое, посуда тоже"]
)
def test_everyday_words_are_not(text: str) -> None:
    assert severe.reason(CONCERNED, said(text)) is None


def test_every_concern_has_words_in_every_language() -> None:
    words = tomllib.loads((Path(severe.__file__).parent / "concerns.toml").read_text("utf-8"))
    assert set(words) == set(CONCERNS)
    expected = {tag.partition("-")[0] for tag in LANGUAGES}
    for by_language in words.values():
        assert set(by_language) == expected
        assert all(stem == stem.casefold() for stems in by_language.values() for stem in stems)


def test_urgency_of_the_model_words_and_both() -> None:
    rule = Rule(name="r", kind="severe", urgency=0.8, words=("gas leak",))
    assert severe.reason(rule, PLAIN) is None
    assert severe.reason(rule, replace(PLAIN, urgency=0.79)) is None
    assert severe.reason(rule, replace(PLAIN, urgency=0.8)) == "urgency at least 0.8"
    assert severe.reason(rule, said("a GAS, leak!")) == 'word "gas leak"'
    both = replace(rule, require="all")
    assert severe.reason(both, said("gas leak", urgency=0.5)) is None
    assert severe.reason(both, said("gas leak", urgency=0.9)) == 'urgency at least 0.8 and word "gas leak"'


def test_a_complaint_of_a_key_customer_is_enough_and_praise_is_not() -> None:
    engine = Engine([Rule(name="key", kind="severe", customers=("acme",), group_by=("customer",))])
    others = [replace(feed.sample(i, i, negative=True), customer=f"c{i}") for i in range(50)]
    praise = replace(feed.sample(60, 60, negative=False), customer="acme")
    assert engine.evaluate([*others, praise], {}, praise.at).alerts == ()
    complaint = replace(feed.sample(61, 61, negative=True), customer="acme")
    (alert,) = engine.evaluate([*others, praise, complaint], {}, complaint.at).alerts
    assert dict(alert.labels)["customer"] == "acme" and alert.state == "firing"
    assert alert.evidence[0].feedback_id == complaint.feedback_id


def test_one_incident_gathers_what_follows_and_fades() -> None:
    rule = Rule(name="r", kind="severe", concerns=("safety",), resolve_after_s=3600)
    engine = Engine([rule])
    texts = ["it caught fire", "fine", "it exploded too", "fine"]
    samples = [
        feed.sample(i, 20 * i, negative=True, text=text) for i, text in enumerate(texts)
    ]
    result = engine.evaluate(samples, {}, samples[-1].at)
    (alert,) = result.alerts
    assert alert.annotations["severe"] == "2" and alert.starts_at == samples[0].at
    ended = engine.tick(result.states, [alert], feed.sample(0, 101, negative=True).at)
    assert [one.state for one in ended.alerts] == ["resolved"]
    assert ended.alerts[0].ends_at == feed.sample(0, 100, negative=True).at
