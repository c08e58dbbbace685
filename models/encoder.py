"""The network that is trained: a BERT encoder, mean pooling, and one linear head a task.

Written out rather than taken from a library because export builds the served graph from these very
parameters, name by name. There is no dropout: it cost a quarter of the training speed on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import PAD, Packed
from models.graph import DOWN_RANGE, UP_RANGE


class Layer(nn.Module):  # type: ignore[misc]  # torch is not followed
    """One post-norm transformer layer; queries, keys and values in one matrix."""

    def __init__(self, hidden: int, intermediate: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, epsilon)
        self.up = nn.Linear(hidden, intermediate)
        self.down = nn.Linear(intermediate, hidden)
        self.output_norm = nn.LayerNorm(hidden, epsilon)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """`x`: [batch, tokens, hidden]; `visible`: bool [batch, 1, 1, tokens]."""
        batch, tokens, hidden = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=visible)
        x = self.attention_norm(x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, hidden)))
        wide = functional.gelu(self.up(x.clamp(*UP_RANGE))).clamp(*DOWN_RANGE)
        normed: Tensor = self.output_norm(x + self.down(wide))
        return normed


class Encoder(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Token ids → pooled embedding and logits. `heads`: name → number of outputs."""

    def __init__(
        self,
        *,
        vocabulary: int,
        layers: int,
        heads: dict[str, int],
        hidden: int = 384,
        intermediate: int = 1536,
        attention_heads: int = 12,
        positions: int = 512,
        epsilon: float = 1e-12,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden, padding_idx=PAD)
        self.positions = nn.Embedding(positions, hidden)
        self.norm = nn.LayerNorm(hidden, epsilon)
        self.layers = nn.ModuleList(Layer(hidden, intermediate, attention_heads, epsilon) for _ in range(layers))
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, outputs) for name, outputs in heads.items()})

    def embed(self, ids: Tensor) -> Tensor:
        """`ids`: int64 [batch, tokens], padded with PAD. Mean of the last layer: [batch, hidden]."""
        seen = ids != PAD
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x, seen[:, None, None, :])
        weight = seen.unsqueeze(-1).to(x.dtype)
        pooled: Tensor = (x * weight).sum(1) / weight.sum(1)
        return pooled

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """Logits by head, each [batch, outputs], and the `embedding`."""
        pooled = self.embed(ids)
        return {"embedding": pooled} | {name: head(pooled) for name, head in self.heads.items()}


def from_packed(packed: Packed, *, keep: Sequence[int], layers: Sequence[int], heads: dict[str, int]) -> Encoder:
    """An encoder with pretrained weights: the pieces in `keep`, the numbered `layers`, fresh heads."""
    hidden, inner = packed.config["hidden"], packed.config["intermediate"]
    model = Encoder(
        vocabulary=len(keep),
        layers=len(layers),
        heads=heads,
        hidden=hidden,
        intermediate=inner,
        attention_heads=packed.config["heads"],
        positions=packed.config["positions"],
        epsilon=packed.epsilon,
    )

    def put(parameter: Tensor, *names: str) -> None:
        values = [packed.tensor(name, -1) for name in names]
        parameter.data = torch.from_numpy(np.concatenate(values).reshape(parameter.shape))

    words = packed.tensor("emb.word", packed.config["vocabulary"], hidden)
    model.words.weight.data = torch.from_numpy(words[np.asarray(keep)])
    kind = torch.from_numpy(packed.tensor("emb.type", -1, hidden)[0])
    put(model.positions.weight, "emb.pos")
    model.positions.weight.data += kind  # only segment 0 is ever used
    put(model.norm.weight, "emb.ln.w")
    put(model.norm.bias, "emb.ln.b")
    for layer, number in zip(model.layers, layers, strict=True):
        for part, suffix in (("weight", "w"), ("bias", "b")):
            for module, names in (
                ("qkv", ("q", "k", "v")),
                ("out", ("ao",)),
                ("attention_norm", ("aln",)),
                ("up", ("fi",)),
                ("down", ("fo",)),
                ("output_norm", ("oln",)),
            ):
                target = getattr(getattr(layer, module), part)
                put(target, *(f"l{number}.{name}.{suffix}" for name in names))
    return model
