from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import batching, preprocess
from models.load import load

ANY = st.text(st.characters(codec=None), max_size=4_000)  # lone surrogates included


@given(ANY)
@example("\ud800")
@example("@" * 3_001)
@example("http" * 1_000)
def test_clean_gives_one_printable_line(text: str) -> None:
    cleaned = preprocess.clean(text)
    cleaned.encode()  # no lone surrogate is left
    assert "\n" not in cleaned and "\x00" not in cleaned
    assert cleaned == cleaned.strip()
    assert preprocess.script(cleaned) in {"Latn", "Cyrl", "Zzzz", "Zyyy"}


@given(st.lists(st.integers(1, 128), max_size=300), st.integers(128, 4_096))
def test_batches_hold_every_text_once_within_bounds(lengths: list[int], bound: int) -> None:
    batches = list(batching.by_length(lengths, bound))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[i] for i in batch) <= bound


CLASSIFIER = load()


@settings(max_examples=40, deadline=None)
@given(st.lists(ANY, max_size=6), st.lists(st.sampled_from(["en", "ru", "uz", "xx", "", None]), max_size=6))
def test_the_shipped_model_answers_any_text(texts: list[str], hints: list[str | None]) -> None:
    predictions = CLASSIFIER.classify(texts, hints)
    assert len(predictions) == len(texts)
    assert all(abs(sum(p.sentiment) - 1) < 1e-9 for p in predictions)
