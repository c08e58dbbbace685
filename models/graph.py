"""Trained parameters → the ONNX graph that is served, in fp32 or int8.

The graph is written operator by operator, so that it starts out fused. Weights are symmetric int8 with
one scale a column, embeddings int8 with one scale a piece. Activations are quantised to uint8 with scales
fixed beforehand (`ranges`), so a text's answer does not depend on the texts it runs with. Normalisation
is written with InstanceNormalization over each token: onnxruntime's CPU kernel of LayerNormalization took
three times as long. Input `ids`: int64 [batch, tokens], padded on the right with PAD. Outputs: `embedding`
and `middle` (what lies half way, less bent to our own labels: other topics are told apart better with it),
both [batch, hidden], and logits by head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.backbone import PAD, Array

EPSILON = 1e-12
# What the products may read. Left free, single channels reach 30 times the rest on single tokens, and a scale that
# must hold them has no steps left for the others.
QKV_RANGE = (-5.0, 7.0)
UP_RANGE = (-8.0, 8.0)
DOWN_RANGE = (-0.17, 6.0)
Ranges = Mapping[str, tuple[float, float]]

MICROSOFT = "com.microsoft"
MIDDLE = "middle"
_HALVINGS = "halvings"


def _int8(matrix: Array, axis: int) -> tuple[NDArray[np.int8], Array]:
    """Symmetric int8 and the scale of each slice that is left when `axis` is reduced."""
    scale = np.maximum(np.abs(matrix).max(axis=axis), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(matrix / np.expand_dims(scale, axis)).astype(np.int8), scale


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """Names of values that depend on how many tokens there are: their count [1], `mask` [batch, tokens], 1 where
    there is text, and `ones`, `zeros` [tokens]."""

    tokens: str
    mask: str
    ones: str
    zeros: str


class _Builder:
    """Collects nodes and constants; every method returns the name of what it made."""

    def __init__(self, parameters: Mapping[str, Array], ranges: Ranges | None) -> None:
        self.parameters = parameters
        self.ranges = ranges
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name

    def parameter(self, name: str) -> str:
        return self.constant(name, self.parameters[name])

    def node(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: object) -> str:
        name = f"{kind}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return name

    def quantised(self, x: str, name: str, bounds: tuple[float, float]) -> tuple[str, str, str]:
        """`x` as uint8, saturating at `bounds`; its scale and its zero point."""
        low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
        step = (high - low) / 255
        scale = self.constant(f"{name}.x_scale", np.array(step, np.float32))
        zero = self.constant(f"{name}.x_zero", np.array(round(-low / step), np.uint8))
        return self.node("QuantizeLinear", x, scale, zero), scale, zero

    def weight(self, name: str) -> tuple[str, str]:
        """A linear layer's weight [inputs, outputs] as int8 and its scale by column."""
        values, scale = _int8(self.parameters[f"{name}.weight"].T, axis=0)
        return self.constant(f"{name}.weight", values), self.constant(f"{name}.scale", scale)

    def linear(self, x: str, name: str) -> str:
        """`x` @ weight.T + bias."""
        bias = self.parameter(f"{name}.bias")
        if self.ranges is None:
            product = self.node("MatMul", x, self.constant(f"{name}.weight", self.parameters[f"{name}.weight"].T))
            return self.node("Add", product, bias)
        small, x_scale, x_zero = self.quantised(x, name, self.ranges[name])
        weight, scale = self.weight(name)
        return self.node("MatMulIntegerToFloat", small, weight, x_scale, scale, x_zero, "", bias, domain=MICROSOFT)

    def attention(self, x: str, name: str, mask: str, heads: int) -> str:
        """Self-attention before its output projection; `mask`: int32 [batch, tokens], 1 where there is text."""
        if self.ranges is None:
            parts = self.node("Split", self.linear(x, name), outputs=3, axis=-1, num_outputs=3)
            each = (f"{parts}.{i}" for i in range(3))
            return self.node("MultiHeadAttention", *each, "", mask, domain=MICROSOFT, num_heads=heads)
        small, x_scale, x_zero = self.quantised(x, name, self.ranges[name])
        weight, scale = self.weight(name)
        zero = self.constant(f"{name}.zero", np.zeros(len(self.parameters[f"{name}.bias"]), np.int8))
        bias = self.parameter(f"{name}.bias")
        inputs = (small, weight, bias, x_scale, scale, mask, x_zero, zero)
        return self.node("QAttention", *inputs, domain=MICROSOFT, num_heads=heads)

    def words(self, ids: str) -> str:
        table = self.parameters["words.weight"]
        if self.ranges is None:
            return self.node("Gather", self.constant("words", table), ids)
        values, scale = _int8(table, axis=1)
        rows = self.node("Gather", self.constant("words", values), ids)
        scales = self.node("Gather", self.constant("words.scale", scale[:, None]), ids)
        return self.node("Mul", self.node("Cast", rows, to=TensorProto.FLOAT), scales)

    def whole(self, ids: str, multiple: int) -> str:
        """`ids` with as many tokens as make a multiple, by padding on the right."""
        tokens = self.node("Shape", ids, start=1, end=2)
        unit = self.constant("multiple", np.array([multiple], np.int64))
        lacking = self.node("Mod", self.node("Neg", tokens), unit)
        nothing = self.constant("nothing", np.zeros(3, np.int64))
        value = self.constant("padding", np.array(PAD, np.int64))
        return self.node("Pad", ids, self.node("Concat", nothing, lacking, axis=0), value)

    def view(self, weight: str) -> _View:
        """What the operators need to know of `weight`, [batch, tokens, 1]: how many pieces each place holds."""
        tokens = self.node("Shape", weight, start=1, end=2)
        flat = self.node("Squeeze", weight, "last")
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        return _View(
            tokens=tokens,
            mask=self.node("Cast", self.node("Cast", flat, to=TensorProto.BOOL), to=TensorProto.INT32),
            ones=self.node("ConstantOfShape", tokens, value=numpy_helper.from_array(one)),
            zeros=self.node("ConstantOfShape", tokens, value=numpy_helper.from_array(zero)),
        )

    def halved(self, x: str, weight: str, hidden: int) -> tuple[str, str]:
        """`encoder.halved`: pairs of tokens as their weighted mean, and how many pieces each pair holds."""
        values = self.constant("pairs", np.array([0, -1, 2 * hidden], np.int64))
        weights = self.constant("pairs.weight", np.array([0, -1, 2], np.int64))
        two = self.node("Split", self.node("Reshape", x, values), outputs=2, axis=-1, num_outputs=2)
        each = self.node("Split", self.node("Reshape", weight, weights), outputs=2, axis=-1, num_outputs=2)
        total = self.node("Add", f"{each}.0", f"{each}.1")
        divisor = self.node("Max", total, self.constant("one", np.array(1, np.float32)))
        left = self.node("Mul", f"{two}.0", self.node("Div", f"{each}.0", divisor))
        right = self.node("Mul", f"{two}.1", self.node("Div", f"{each}.1", divisor))
        return self.node("Add", left, right), total

    def mean(self, x: str, weight: str, name: str) -> None:
        """The output `name`: the mean of a text's tokens, [batch, hidden]."""
        along = self.constant("along", np.array([1], np.int64))
        total = self.node("ReduceSum", self.node("Mul", x, weight), along, keepdims=0)
        length = self.node("ReduceSum", weight, along, keepdims=0)
        self.nodes.append(helper.make_node("Div", [total, length], [name]))

    def norm(self, x: str, name: str, view: _View) -> str:
        """Layer normalisation, as InstanceNormalization of each token."""
        unit = self.node("InstanceNormalization", x, view.ones, view.zeros, epsilon=EPSILON)
        scaled = self.node("Mul", unit, self.parameter(f"{name}.weight"))
        return self.node("Add", scaled, self.parameter(f"{name}.bias"))


def build(
    parameters: Mapping[str, Array],
    *,
    heads: Mapping[str, int],
    halvings: Sequence[int] = (),
    attention_heads: int = 12,
    ranges: Ranges | None,
) -> onnx.ModelProto:
    """The graph of `encoder.Encoder`'s parameters (by their names there) and `halvings`, checked.

    `ranges`: least and greatest input of each linear layer, by its name, for int8; None for fp32.
    """
    make = _Builder(parameters, ranges)
    hidden = parameters["words.weight"].shape[1]
    layers = 1 + max(int(name.split(".")[1]) for name in parameters if name.startswith("layers."))

    ids = make.whole("ids", 2 ** len(halvings)) if halvings else "ids"
    pad = make.constant("pad", np.array(PAD, np.int64))
    weight = make.node("Cast", make.node("Not", make.node("Equal", ids, pad)), to=TensorProto.FLOAT)
    weight = make.node("Unsqueeze", weight, make.constant("last", np.array([2], np.int64)))
    view = make.view(weight)

    def clipped(x: str, name: str, bounds: tuple[float, float]) -> str:
        """Where fp32 has to clip what int8 saturates."""
        if ranges is not None:
            return x
        low, high = (make.constant(f"{name}.{v}", np.array(v, np.float32)) for v in bounds)
        return make.node("Clip", x, low, high)

    first = make.constant("first", np.array([0], np.int64))
    place = make.node("Slice", make.parameter("positions.weight"), first, view.tokens, first)
    x = make.norm(make.node("Add", make.words(ids), place), "norm", view)
    for number in range(layers):
        name = f"layers.{number}"
        if number in halvings:
            x, weight = make.halved(x, weight, hidden)
            view = make.view(weight)
        mixed = make.attention(clipped(x, "qkv", QKV_RANGE), f"{name}.qkv", view.mask, attention_heads)
        x = make.node("Add", x, make.linear(mixed, f"{name}.out"))
        x = make.norm(x, f"{name}.attention_norm", view)
        wide = make.node("Gelu", make.linear(clipped(x, "up", UP_RANGE), f"{name}.up"), domain=MICROSOFT)
        x = make.node("Add", x, make.linear(clipped(wide, "down", DOWN_RANGE), f"{name}.down"))
        x = make.norm(x, f"{name}.output_norm", view)
        if number == (layers - 1) // 2:
            make.mean(x, weight, MIDDLE)

    make.mean(x, weight, "embedding")
    means = (MIDDLE, "embedding")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", hidden]) for name in means]
    for head, size in heads.items():
        inputs = ["embedding", make.parameter(f"heads.{head}.weight"), make.parameter(f"heads.{head}.bias")]
        make.nodes.append(helper.make_node("Gemm", inputs, [head], transB=1))
        outputs.append(helper.make_tensor_value_info(head, TensorProto.FLOAT, ["batch", size]))

    graph = helper.make_graph(
        make.nodes,
        "ovoz",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])],
        outputs,
        list(make.constants.values()),
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="ovoz")
    helper.set_model_props(model, {_HALVINGS: " ".join(map(str, halvings))})
    onnx.checker.check_model(model)
    return model


def halvings_of(model: onnx.ModelProto) -> tuple[int, ...]:
    """The `halvings` that a graph was built with."""
    props = {entry.key: entry.value for entry in model.metadata_props}
    return tuple(map(int, props.get(_HALVINGS, "").split()))


def parameters_of(model: onnx.ModelProto) -> dict[str, Array]:
    """The parameters that an int8 graph of `build` stands for: its weights times their scales, as fp32."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found: dict[str, Array] = {"words.weight": values["words"] * values["words.scale"]}
    for name, value in values.items():
        layer, _, part = name.rpartition(".")
        if part == "weight" and f"{layer}.scale" in values:
            found[name] = (value * values[f"{layer}.scale"]).T
        elif part in ("weight", "bias"):
            found[name] = value
    return found
