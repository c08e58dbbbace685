"""What the demo's view makes of counts."""

from models.classifier import LABELS
from pipeline.demo.bars import SHAPES, share_bar
from pipeline.demo.paint import SENTIMENT
from pipeline.demo.reading import Health, summarize
from pipeline.windows import Cell


def test_every_label_has_a_colour_a_shape_and_its_part_of_the_bar() -> None:
    assert set(LABELS) == set(SHAPES) == set(SENTIMENT)
    assert share_bar((1, 1, 1, 1), 8).plain == "██▓▓▒▒░░"
    assert share_bar((0, 0, 0, 2), 3).plain == "░░░"
    assert share_bar((0, 0, 0, 0), 3).plain == "···"


def test_unsure_items_are_items_but_not_complaints() -> None:
    cells = {
        Cell("marketplace", minute, "shop", "review", "delivery", "en", label): 2
        for minute, label in enumerate(LABELS, start=100)
    }
    seen = summarize(cells, (), (), Health(), 0.0, 100)
    assert seen.topics == {"delivery": (2, 2, 2, 2)}
    assert seen.replayed == 8
    assert sum(negative for _, negative in seen.minutes.values()) == 2
