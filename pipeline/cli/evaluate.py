"""`ovoz evaluate`: how good the model is on labelled texts, beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pipeline.cli.shared import DONE, Failed, command, settings_of

if TYPE_CHECKING:
    from models.classifier import Classifier
    from models.corpus import Row
    from models.labelled import Labelled

SHOWN_FAULTS: Final = 20


@command("evaluate", short_help="Measure the model on labelled texts.")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the report there instead of the terminal.")  # fmt: skip
@click.option("--json", "as_json", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write every number there as JSON, too.")  # fmt: skip
@click.option("--no-baselines", is_flag=True, help="Leave the TF-IDF and lexicon baselines out.")
@click.option("--skip-faults", is_flag=True, help="Go on without the lines that have faults.")
def evaluate(
    file: Path, markdown: Path | None, as_json: Path | None, no_baselines: bool, skip_faults: bool, config: Path | None
) -> int:
    """Compare what the model of the settings says of the texts in FILE with what their labels say.

    FILE is .jsonl or .csv (either with .gz, too), with the fields text, and sentiment (negative, neutral, positive),
    topics (one, several with commas, or a list) and urgent (true, false), of which each line needs one; language
    and source divide the scores. A folder of .tsv files as in models/sentences will do as well.

    The report has accuracy, macro-F1 with its 95 % interval and calibration (ECE) for all texts, each
    language and each source, the share of unsure answers and how right the others are, reliability
    tables, confusion, and the surest mistakes; the same texts go through the baselines that come with
    the model: counting letters (TF-IDF) and word lists. It needs no torch and no training data.

    \b
    Example:
        ovoz evaluate labelled.csv
        ovoz evaluate test.jsonl --markdown report.md --json report.json
        {"text":"Kuryer kelmadi","sentiment":"negative","topics":["delivery"],"language":"uz","urgent":false}
    """
    from models import evaluate as measuring
    from models import labelled
    from pipeline.model import classifier_of, labels_of

    settings = settings_of(config).model
    found = labelled.read(file, labels_of(settings))
    rows = take(found, skip_faults)
    for line in _known(rows):
        click.echo(line, err=True)
    classifiers: list[Classifier] = [classifier_of(settings)]
    if not no_baselines:
        classifiers += _baselines(settings.path if settings.engine == "onnx" else None)
    report = measuring.evaluate(
        rows, classifiers, lambda model: click.echo(f"{len(rows):,} texts through {model} …", err=True)
    )
    if as_json:
        as_json.write_text(report.to_json(), "utf-8")
        click.echo(f"wrote {as_json}", err=True)
    if markdown:
        markdown.write_text(f"# {file.name}\n\n{report.to_markdown()}", "utf-8")
        click.echo(f"wrote {markdown}", err=True)
    else:
        click.echo(report.to_markdown(), nl=False)
    return DONE


def take(found: Labelled, skip_faults: bool) -> tuple[Row, ...]:
    """The rows; Failed with every fault, unless they are to be skipped, and where there is no row at all."""
    faults = found.faults
    for fault in faults[:SHOWN_FAULTS]:
        click.echo(fault, err=True)
    if len(faults) > SHOWN_FAULTS:
        click.echo(f"… and {len(faults) - SHOWN_FAULTS} more", err=True)
    if faults and not skip_faults:
        raise Failed(f"{len(faults)} lines have faults; mend them, or leave them out with --skip-faults")
    if not found.rows:
        raise Failed("there is no labelled text in it")
    return found.rows


def _known(rows: tuple[Row, ...]) -> list[str]:
    """A warning where the model may have learned these very texts."""
    from models import corpus
    from models.teach import SENTENCES

    learned = (row.text for row in corpus.sentences(SENTENCES / "train"))
    same = {text for _, text in corpus.near_duplicates(learned, (row.text for row in rows))}
    if not same:
        return []
    return [f"{len(same)} of these texts are among the sentences that the model learned from: its scores flatter it"]


def _baselines(path: str | None) -> list[Classifier]:
    from models import artifact
    from models.load import load

    folder = Path(path) if path else artifact.SHIPPED
    beside = str(folder) if (folder / artifact.BASELINE).is_file() else None  # else the one that comes with Ovoz
    return [load("tfidf", beside), load("lexicon")]
