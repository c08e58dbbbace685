"""`ovoz topics`: a user's own topics, from example sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shared import DONE, Failed, settings_of, with_config

if TYPE_CHECKING:
    from models.topic_fit import Fitted
    from models.topics import Wanted


@click.group("topics", short_help="Teach and list topics.")
def topics() -> None:
    """Topics of your own, from a few example sentences each, in any language.

    \b
    Example:
        ovoz topics example > topics.toml      # a file to start from
        ovoz topics check topics.toml          # every fault in it, with its line
        ovoz topics fit topics.toml            # seconds; writes topics.npz and says how good it is
    """


@topics.command("fit", short_help="Fit topics and say how well they are told apart.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where to write the fitted topics; default: FILE with the ending .npz.")  # fmt: skip
@with_config
def fit(file: Path, out: Path | None, config: Path | None) -> int:
    """Fit the topics in FILE on top of the model and write them to a small file of their own.

    The model itself is not changed: its sentiment, urgency and language stay what they were, and so do its own
    topics, unless FILE replaces them. The scores are cross-validated: each of your sentences is judged by topics
    that were fitted without it, and the model's own topics by sentences that it has never seen. Nothing is
    written when two topics cannot be told apart. The same file gives the same topics.

    Each [[topic]] has a name, a description and 4 to 20 examples, best some in each language that you hear. With
    includes = ["delivery"] it takes the place of the model's own topics of these names; a topic with the name of one
    of the model's adds examples to it. keep = […] at the top names the model's own topics that stay; without
    it all stay that none includes. What fits no topic is other.

    \b
    Example:
        ovoz topics fit topics.toml
        OVOZ_MODEL_TOPICS=topics.npz ovoz classify "Where are my bonus points?"
    """
    from models import teach
    from models.onnx import OnnxClassifier
    from models.topic_fit import describe

    settings = settings_of(config)
    if settings.model.engine != "onnx":
        raise Failed(f'topics are fitted for the engine onnx; [model] engine = "{settings.model.engine}"')
    model = OnnxClassifier(settings.model.path, settings.model.threads)
    wanted = _read(file, model.topics)
    fitted = teach.fit(wanted, model, cache=settings.ingest.data_dir / "cache")
    _show(wanted, fitted)
    if fitted.confused:
        raise Failed("\n".join(describe(pair, wanted.topics, model.topics) for pair in fitted.confused))
    out = out or file.with_suffix(".npz")
    head = teach.write(out, wanted, fitted, model)
    click.echo(f"wrote {out}; scores will be from {head.identity(model.model.partition('@')[0], model.weights)}")
    click.echo(f'To use it, write into ovoz.toml:\n[model]\ntopics = "{out}"')
    return DONE


@topics.command("check", short_help="Find every fault in a file of topics.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_config
def check(file: Path, config: Path | None) -> int:
    """Read FILE and print every fault in it, with its line and what would be right. Nothing is fitted."""
    from models.load import topics_of

    model = settings_of(config).model
    wanted = _read(file, topics_of("onnx", model.path))
    names = ", ".join(topic.name for topic in wanted.topics)
    count = sum(len(topic.examples) for topic in wanted.topics)
    own = f"{len(wanted.topics)} topics ({names}) with {count} examples"
    click.echo(f"{file}: {own}, {len(wanted.keep)} of the model's own kept: no faults")
    return DONE


@topics.command("list", short_help="List the topics that are in use.")
@with_config
def list_topics(config: Path | None) -> int:
    """Print every topic that the model of the settings can say, one a line, with what it means where that is known."""
    from models.head import read
    from models.taxonomy import DEFINITIONS
    from pipeline.model import labels_of

    model = settings_of(config).model
    own = read(model.topics).descriptions if model.topics else {}
    for name in labels_of(model):
        about = own.get(name) or DEFINITIONS.get(name, "")
        click.echo(f"{name:<16}{about}".rstrip())
    return DONE


@topics.command("example", short_help="Print a file of topics to start from.")
def example() -> int:
    """Print a file with two topics and what every line of it means."""
    click.echo(_EXAMPLE, nl=False)
    return DONE


def _read(file: Path, known: tuple[str, ...]) -> Wanted:
    """What the file asks for. Raises Failed with every fault."""
    from models.topics import parse
    from pipeline.settings_file import parse as parse_toml
    from pipeline.toml_lines import line_of

    try:
        source = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failed(f"{file}: found bytes that are no UTF-8 at position {error.start}; save it as UTF-8") from None
    data, syntax = parse_toml(source, str(file))
    wanted, faults = parse(str(file), data, line_of(source), known=known)
    every = [*map(str, syntax), *([] if syntax and not data else map(str, faults))]
    if every:
        raise Failed("\n".join([*every, f"{len(every)} fault{'s' if len(every) != 1 else ''}"]))
    return wanted


def _show(wanted: Wanted, fitted: Fitted) -> None:
    """The scores as a table."""
    from rich.console import Console
    from rich.table import Table

    own = {topic.name for topic in wanted.topics}
    table = Table(box=None, pad_edge=False)
    for name in ("topic", "texts", "F1 before", "after"):
        table.add_column(name, justify="left" if name == "topic" else "right")
    for score in fitted.scores:
        before = "–" if score.before is None else f"{score.before:.2f}"
        mark = " (yours)" if score.topic in own else ""
        table.add_row(score.topic + mark, str(score.texts), before, f"{score.after:.2f}")
    shares = (f"{fitted.accuracy_before:.2f}", f"{fitted.accuracy_after:.2f}")
    table.add_row("all, accuracy", str(fitted.texts), *shares)
    Console().print(table)


_EXAMPLE = '''\
# Topics of your own for `ovoz topics fit`. The model's own topics stay, unless a topic here includes them.
# keep = ["delivery", "service"]     # with this line only these of the model's own topics stay

[[topic]]
name = "loyalty"
description = "Bonus points, cashback, cards and levels."
# includes = ["price"]               # takes the place of these topics of the model
examples = [                         # 4 to 20, as your customers write them; the more the better, in each language
  "Where did my bonus points go? I had 1200 yesterday",
  "Cashback for September still has not been credited",
  "Gold level should give me double points but it does not",
  "points expired without any warning, nice loyalty program",
  "love that I can pay with my bonus points",
  "Куда пропали мои баллы с карты лояльности",
  "Не начислили кешбэк за покупку, хотя обещали 5%",
  "Бонусы сгорели без предупреждения",
  "Накопила баллы и оплатила ими весь заказ, спасибо",
  "Статус понизили до серебряного, за что?",
  "Bonus ballarim kuyib ketdi, hech kim ogohlantirmadi",
  "Keshbek qachon tushadi, bir hafta bo'ldi",
  "Ballarimni ishlata olmayapman",
  "Sodiqlik kartasi berishdi, juda yoqdi",
  "Keshbek 3 foiz degandingiz, 1 foiz tushibdi",
]

[[topic]]
name = "packaging"
description = "Boxes, wrapping and waste."
examples = [
  "Way too much plastic wrapped around a tiny bottle",
  "The gift wrapping was beautiful, thank you",
  "box was huge and inside one single pencil",
  "no bubble wrap at all, just a thin bag",
  "please use paper instead of plastic",
  "Коробка огромная, а внутри один карандаш, зачем столько картона",
  "Упаковка порванная, без пупырки",
  "Красиво упаковали подарок, спасибо",
  "Слишком много пластика в упаковке",
  "Пакет тонкий, порвался сразу",
  "Qadoq juda chiroyli ekan, sovg'aga berishga uyalmaysan",
  "Qutisi yirtilgan, skotch bilan zo'rg'a yopishtirilgan",
  "Juda ko'p plastik paket ishlatilgan",
  "Qadoqsiz, oddiy paketda yuborishibdi",
  "Sovg'a qadog'i uchun rahmat",
]
'''
