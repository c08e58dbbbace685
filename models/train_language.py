"""Train the language table: a softmax over the mean of a text's pieces, so one row of logits a piece."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from models import uzbek
from models.classifier import UNKNOWN_LANGUAGE
from models.corpus import LANGUAGES

OTHERS: Final = (
    *("nl", "pl", "cs", "sv", "da", "nb", "fi", "hu", "ro", "id", "ms", "vi"),
    *("ca", "sh", "sk", "sl", "lt", "lv", "fil", "is", "uk", "bg", "mk"),
)
_RATES: Final = (0.3, 0.15, 0.05, 0.02)
_MOST: Final = 14_000
_BATCH: Final = 1_024


def word_salad(frequencies: Mapping[str, float], count: int, seed: int) -> list[str]:
    """`count` runs of 1-12 words, drawn by frequency: for pieces, as good as sentences of that language."""
    words = [word for word in frequencies if word[0].isalpha()]
    weights = np.array([frequencies[word] for word in words]) ** 0.8
    draws = np.random.default_rng(seed)
    drawn = iter(draws.choice(len(words), size=12 * count, p=weights / weights.sum()).tolist())
    runs = (" ".join(words[next(drawn)] for _ in range(length)) for length in draws.integers(1, 13, count).tolist())
    return [run if i % 5 < 3 else run.capitalize() for i, run in enumerate(runs)]


def train_language(texts: Mapping[str, Sequence[str]], *, tokenizer: Tokenizer, out: Path, seed: int = 3) -> None:
    """Write the table that `LanguageDetector.load` reads.

    `texts`: cleaned, by BCP 47 tag of LANGUAGES, and `und` for texts of other languages (the shipped
    table took `word_salad` of OTHERS, with frequencies from `wordfreq`). Cyrillic Uzbek is made from
    Latin as well. Half of the longer texts are cut to a few words, since short texts are the hard ones.
    """
    chance = random.Random(seed)
    torch.manual_seed(seed)
    tags = (*LANGUAGES, UNKNOWN_LANGUAGE)
    moved = [uzbek.to_cyrillic(text) for text in texts.get("uz", ())]
    shown: list[tuple[str, int]] = []
    for number, tag in enumerate(tags):
        known = [*texts.get(tag, ()), *(moved if tag == "uz-Cyrl" else ())]
        for text in chance.sample(known, min(len(known), _MOST)):
            words = text.split()
            if len(words) > 4 and chance.random() < 0.5:
                start = chance.randrange(len(words) - 2)
                text = " ".join(words[start : start + chance.randint(2, 8)])
            shown.append((text.lower() if chance.random() < 0.15 else text, number))
    ids = [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch([text for text, _ in shown])]
    labels = torch.tensor([number for _, number in shown])
    balance = torch.bincount(labels, minlength=len(tags)).clamp(min=1).float().rsqrt()
    table = torch.nn.EmbeddingBag(tokenizer.get_vocab_size(), len(tags), mode="mean")
    torch.nn.init.zeros_(table.weight)
    optimizer = torch.optim.Adam(table.parameters())
    for rate in _RATES:
        optimizer.param_groups[0]["lr"] = rate
        order = chance.sample(range(len(ids)), len(ids))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            lengths = torch.tensor([0] + [len(ids[i]) for i in batch[:-1]])
            logits = table(torch.cat([ids[i] for i in batch]), lengths.cumsum(0))
            loss = functional.cross_entropy(logits, labels[batch], weight=balance, label_smoothing=0.02)
            loss = loss + 1e-8 * table.weight.pow(2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    weights = table.weight.detach().numpy()
    scale = np.float32(max(float(np.abs(weights).max()), 1e-6) / 127)
    np.savez_compressed(out, weights=np.rint(weights / scale).astype(np.int8), scale=scale, tags=np.array(tags))
