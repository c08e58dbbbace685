"""The network that is trained: a BERT encoder, mean pooling, and one linear head a task.

Written out rather than taken from a library because export builds the served graph from these very
parameters, name by name. Dropout leaves out channels of a whole text, not of single tokens: as a mask of
[batch, 1, hidden], it costs next to nothing on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import PAD, Packed
from models.graph import DOWN_RANGE, QKV_RANGE, UP_RANGE

HIDDEN: Final = -1e4
DROPOUT: Final = 0.1


class Saturate(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
    """`clamp` whose gradient passes everywhere: rare outliers learn to come back, and it is cheap.

    With `rounded`, also to the 256 values that int8 leaves of the range.
    """

    @staticmethod
    def forward(_: Any, x: Tensor, low: float, high: float, rounded: bool) -> Tensor:
        x = x.clamp(low, high)
        if not rounded:
            return x
        step = (high - low) / 255
        return x.float().div_(step).round_().mul_(step).to(x.dtype)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return gradient, None, None, None


class Noise(nn.Module):  # type: ignore[misc]  # torch is not followed
    """While training, leaves out each channel of a text with chance DROPOUT. `draws` is seeded by the trainer."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`x`: [batch, tokens, hidden]."""
        if not self.training or self.draws is None:
            return x
        kept = torch.rand(x.shape[0], 1, x.shape[2], generator=self.draws) >= DROPOUT
        return x * (kept.to(x.dtype) / (1 - DROPOUT))


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
        self.noise = Noise()
        self.rounded = False

    def forward(self, x: Tensor, hidden_bias: Tensor) -> Tensor:
        """`x`: [batch, tokens, hidden]; `hidden_bias`: [batch, 1, tokens], 0 or, where nothing is to be seen, HIDDEN.

        Attention is written as products of matrices: on a CPU in bf16, that trains half as fast again as
        the fused kernel.
        """
        batch, tokens, hidden = x.shape
        width = hidden // self.heads
        rounded = self.rounded and self.training
        qkv = (
            self.qkv(Saturate.apply(x, *QKV_RANGE, rounded))
            .view(batch, tokens, 3, self.heads, width)
            .permute(2, 0, 3, 1, 4)
        )
        query, key, value = (part.reshape(batch * self.heads, tokens, width) for part in qkv)
        bias = hidden_bias.repeat_interleave(self.heads, 0).to(query.dtype)
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=width**-0.5)
        mixed = torch.bmm(torch.softmax(scores, -1, dtype=query.dtype), value).view(batch, self.heads, tokens, width)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, tokens, hidden))
        x = self.attention_norm(x + self.noise(mixed))
        wide = functional.gelu(self.up(Saturate.apply(x, *UP_RANGE, rounded)))
        narrow = self.down(Saturate.apply(wide, *DOWN_RANGE, rounded))
        normed: Tensor = self.output_norm(x + self.noise(narrow))
        return normed


def halved(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours as one: [batch, tokens, hidden] → half as many tokens, each the mean of two, weighted.

    `weight`: [batch, tokens], how many pieces of text a place stands for; 0 is padding.
    """
    if x.shape[1] % 2:
        x, weight = functional.pad(x, (0, 0, 0, 1)), functional.pad(weight, (0, 1))
    batch, tokens, hidden = x.shape
    pairs = weight.view(batch, tokens // 2, 2, 1)
    total = pairs.sum(2)
    means = (x.view(batch, tokens // 2, 2, hidden) * pairs).sum(2) / total.clamp(min=1)
    return means, total.squeeze(-1)


class Encoder(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Token ids → pooled embedding and logits. `heads`: name → number of outputs.

    `halvings`: the layers before which neighbouring tokens are averaged, two to one.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        layers: int,
        heads: dict[str, int],
        halvings: Sequence[int] = (),
        hidden: int = 384,
        intermediate: int = 1536,
        attention_heads: int = 12,
        positions: int = 512,
        epsilon: float = 1e-12,
    ) -> None:
        super().__init__()
        self.halvings = tuple(halvings)
        self.words = nn.Embedding(vocabulary, hidden, padding_idx=PAD)
        self.positions = nn.Embedding(positions, hidden)
        self.norm = nn.LayerNorm(hidden, epsilon)
        self.layers = nn.ModuleList(Layer(hidden, intermediate, attention_heads, epsilon) for _ in range(layers))
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, outputs) for name, outputs in heads.items()})

    def embed(self, ids: Tensor) -> Tensor:
        """`ids`: int64 [batch, tokens], padded with PAD. Mean of the last layer: [batch, hidden]."""
        weight = (ids != PAD).to(self.words.weight.dtype)
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        for number, layer in enumerate(self.layers):
            if number in self.halvings:
                x, weight = halved(x, weight)
            x = layer(x, (weight == 0).to(weight.dtype)[:, None, :] * HIDDEN)
        pooled: Tensor = (x * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True)
        return pooled

    def draw_from(self, draws: torch.Generator) -> None:
        """Let every dropout draw from here."""
        for layer in self.layers:
            layer.noise.draws = draws

    def round_inputs(self) -> None:
        """From now on, train with what int8 will leave of the inputs of its products."""
        for layer in self.layers:
            layer.rounded = True

    def begin_from(self, other: Encoder, layers: Sequence[int]) -> None:
        """Take over the parameters of `other`, of its layers those numbered `layers`."""
        state = other.state_dict()
        ours = {name: value for name, value in state.items() if not name.startswith("layers.")}
        for mine, theirs in enumerate(layers):
            old = f"layers.{theirs}."
            ours |= {
                f"layers.{mine}.{name.removeprefix(old)}": value
                for name, value in state.items()
                if name.startswith(old)
            }
        self.load_state_dict(ours)

    def narrow(self, width: int, ids: Tensor) -> None:
        """Keep the `width` inner units of each layer that add most to its output on `ids` (mean square)."""
        read: dict[int, Tensor] = {}

        def watch(number: int) -> Any:
            def hook(_: object, inputs: tuple[Tensor]) -> None:
                read[number] = inputs[0].float().square().mean((0, 1))

            return hook

        handles = [layer.down.register_forward_pre_hook(watch(n)) for n, layer in enumerate(self.layers)]
        with torch.no_grad():
            self.embed(ids)
        for handle in handles:
            handle.remove()
        for number, layer in enumerate(self.layers):
            added = read[number] * layer.down.weight.detach().square().sum(0)
            kept = added.topk(width).indices.sort().values
            for parameter in (layer.up.weight, layer.up.bias):
                parameter.data = parameter.data[kept].clone()
            layer.down.weight.data = layer.down.weight.data[:, kept].clone()
            layer.up.out_features = layer.down.in_features = width

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """Logits by head, each [batch, outputs], and the `embedding`."""
        pooled = self.embed(ids)
        return {"embedding": pooled} | {name: head(pooled) for name, head in self.heads.items()}


def from_packed(
    packed: Packed, *, keep: Sequence[int], layers: Sequence[int], heads: dict[str, int], halvings: Sequence[int] = ()
) -> Encoder:
    """An encoder with pretrained weights: the pieces in `keep`, the numbered `layers`, fresh heads."""
    hidden, inner = packed.config["hidden"], packed.config["intermediate"]
    model = Encoder(
        vocabulary=len(keep),
        layers=len(layers),
        heads=heads,
        halvings=halvings,
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
