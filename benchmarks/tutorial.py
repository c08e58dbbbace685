"""The pipeline of a tutorial, to compare with: a Faust agent that calls a Hugging Face pipeline for each message.

    python -m benchmarks.tutorial make xlmr FOLDER      a checkpoint of XLM-R base's size
    python -m benchmarks.tutorial make own FOLDER       one of the shipped model's architecture, in fp32
    python -m benchmarks.tutorial run FOLDER --bootstrap HOST:PORT --topic NAME --items N

Weights are random: they take as long as trained ones. The tokenizers are real: XLM-R's 250,002 pieces
and the shipped model's 32,000. `run` prints messages a second, from the first to the last. Needs
`ovoz[train]`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

KINDS: Final = ("xlmr", "own")
MAX_TOKENS: Final = 128


def make(kind: str, folder: Path) -> None:
    """Write a checkpoint as `save_pretrained` does."""
    import torch
    from tokenizers import Tokenizer
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
    )

    from models import artifact, backbone

    torch.manual_seed(7)
    named = {"id2label": dict(enumerate(("negative", "neutral", "positive"))), "num_labels": 3, "pad_token_id": 1}
    if kind == "xlmr":
        tokenizer = backbone.tokenizer(backbone.read_packed(backbone.packed_path()))
        model = XLMRobertaForSequenceClassification(
            XLMRobertaConfig(vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, **named)
        )
    else:
        tokenizer = Tokenizer.from_file(str(artifact.SHIPPED / "tokenizer.json"))
        model = BertForSequenceClassification(
            BertConfig(
                vocab_size=tokenizer.get_vocab_size(),
                hidden_size=384,
                num_hidden_layers=6,
                num_attention_heads=12,
                intermediate_size=1536,
                **named,
            )
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )
    model.eval()
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)


def run(folder: Path, bootstrap: str, topic_name: str, items: int) -> None:
    """Classify the first `items` messages of the topic, one by one, and print the rate."""
    import faust
    from transformers import pipeline

    app = faust.App(
        f"tutorial-{folder.name}-{os.getpid()}",
        broker=f"kafka://{bootstrap}",
        datadir=str(folder / "faust"),
        store="memory://",
        value_serializer="json",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=6,
        broker_heartbeat_interval=1,
        web_enabled=False,
    )
    topic = app.topic(topic_name)
    classifier: Any = pipeline("text-classification", model=str(folder), tokenizer=str(folder), device="cpu")
    classifier("warm up")

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def analyse(stream: Any) -> None:
        counts: dict[str, int] = {}
        started, done = 0.0, 0
        async for message in stream:
            found = classifier(message["text"], truncation=True)[0]
            counts[found["label"]] = counts.get(found["label"], 0) + 1
            done += 1
            if done == 1:
                started = time.perf_counter()
            if done == items:
                seconds = time.perf_counter() - started
                print(f"rate {(done - 1) / seconds:.3f}", flush=True)
                os._exit(0)

    worker = faust.Worker(app, loglevel=logging.WARNING, redirect_stdouts=False)
    worker.execute_from_commandline()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("kind", choices=KINDS)
    making.add_argument("folder", type=Path)
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--bootstrap", required=True)
    running.add_argument("--topic", required=True)
    running.add_argument("--items", type=int, default=100)
    chosen = parser.parse_args()
    if chosen.command == "make":
        make(chosen.kind, chosen.folder)
    else:
        run(chosen.folder, chosen.bootstrap, chosen.topic, chosen.items)
    return 0


if __name__ == "__main__":
    sys.exit(main())
