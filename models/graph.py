"""Trained parameters → the ONNX graph that is served, in fp32 or int8.

The graph is written operator by operator, so that it starts out fused: one matrix product for
queries, keys and values, fused attention, fused residual and normalisation, and in int8 one operator
that quantises its input (per tensor, asymmetric, at run time), multiplies and adds the bias. Weights
are symmetric int8 with one scale a column, embeddings int8 with one scale a piece. Input `ids`: int64
[batch, tokens], padded on the right with PAD. Outputs: `embedding` [batch, hidden] and logits by head.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.backbone import PAD, Array

MICROSOFT = "com.microsoft"


def _int8(matrix: Array, axis: int) -> tuple[NDArray[np.int8], Array]:
    """Symmetric int8 and the scale of each slice that is left when `axis` is reduced."""
    scale = np.maximum(np.abs(matrix).max(axis=axis), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(matrix / np.expand_dims(scale, axis)).astype(np.int8), scale


class _Builder:
    """Collects nodes and constants; every method returns the name of what it made."""

    def __init__(self, parameters: Mapping[str, Array], int8: bool) -> None:
        self.parameters = parameters
        self.int8 = int8
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if all(name != known.name for known in self.constants):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def parameter(self, name: str) -> str:
        return self.constant(name, self.parameters[name])

    def node(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: object) -> str:
        name = f"{kind}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return name

    def linear(self, x: str, name: str) -> str:
        """`x` @ weight.T + bias."""
        weight, bias = self.parameters[f"{name}.weight"].T, self.parameter(f"{name}.bias")
        if not self.int8:
            product = self.node("MatMul", x, self.constant(f"{name}.weight", weight))
            return self.node("Add", product, bias)
        values, scale = _int8(weight, axis=0)
        return self.node(
            "DynamicQuantizeMatMul",
            x,
            self.constant(f"{name}.weight", values),
            self.constant(f"{name}.scale", scale),
            "",
            bias,
            domain=MICROSOFT,
        )

    def words(self, ids: str) -> str:
        table = self.parameters["words.weight"]
        if not self.int8:
            return self.node("Gather", self.constant("words", table), ids)
        values, scale = _int8(table, axis=1)
        rows = self.node("Gather", self.constant("words", values), ids)
        scales = self.node("Gather", self.constant("words.scale", scale[:, None]), ids)
        return self.node("Mul", self.node("Cast", rows, to=TensorProto.FLOAT), scales)

    def skip_norm(self, x: str, residual: str, name: str, epsilon: float) -> str:
        weight, bias = self.parameter(f"{name}.weight"), self.parameter(f"{name}.bias")
        return self.node("SkipLayerNormalization", x, residual, weight, bias, domain=MICROSOFT, epsilon=epsilon)


def build(
    parameters: Mapping[str, Array], *, heads: Mapping[str, int], attention_heads: int = 12, int8: bool
) -> onnx.ModelProto:
    """The graph of `encoder.Encoder`'s parameters (by their names there). Checked before it is returned."""
    epsilon = 1e-12
    make = _Builder(parameters, int8)
    hidden = parameters["words.weight"].shape[1]
    layers = 1 + max(int(name.split(".")[1]) for name in parameters if name.startswith("layers."))

    pad = make.constant("pad", np.array(PAD, np.int64))
    padded = make.node("Equal", "ids", pad)
    seen = make.node("Cast", make.node("Not", padded), to=TensorProto.FLOAT)
    one = make.constant("one", np.array([1], np.int64))
    length = make.node("ReduceSum", seen, one, keepdims=1)
    mask = make.node("Cast", seen, to=TensorProto.INT32)

    tokens = make.node("Shape", "ids", start=1, end=2)
    zero = make.constant("zero", np.array([0], np.int64))
    place = make.node("Slice", make.parameter("positions.weight"), zero, tokens, zero)
    summed = make.node("Add", make.words("ids"), place)
    norm = make.parameter("norm.weight"), make.parameter("norm.bias")
    x = make.node("LayerNormalization", summed, *norm, axis=-1, epsilon=epsilon)
    for number in range(layers):
        name = f"layers.{number}"
        qkv = make.linear(x, f"{name}.qkv")
        parts = make.node("Split", qkv, outputs=3, axis=-1, num_outputs=3)
        mixed = make.node(
            "MultiHeadAttention",
            *(f"{parts}.{i}" for i in range(3)),
            "",
            mask,
            domain=MICROSOFT,
            num_heads=attention_heads,
        )
        x = make.skip_norm(make.linear(mixed, f"{name}.out"), x, f"{name}.attention_norm", epsilon)
        wide = make.node("Gelu", make.linear(x, f"{name}.up"), domain=MICROSOFT)
        x = make.skip_norm(make.linear(wide, f"{name}.down"), x, f"{name}.output_norm", epsilon)

    weighted = make.node("Mul", x, make.node("Unsqueeze", seen, make.constant("last", np.array([2], np.int64))))
    make.nodes.append(
        helper.make_node("Div", [make.node("ReduceSum", weighted, one, keepdims=0), length], ["embedding"])
    )
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", hidden])]
    for head, size in heads.items():
        weight, bias = make.parameter(f"heads.{head}.weight"), make.parameter(f"heads.{head}.bias")
        make.nodes.append(helper.make_node("Gemm", ["embedding", weight, bias], [head], transB=1))
        outputs.append(helper.make_tensor_value_info(head, TensorProto.FLOAT, ["batch", size]))

    graph = helper.make_graph(
        make.nodes,
        "ovoz",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])],
        outputs,
        make.constants,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="ovoz")
    onnx.checker.check_model(model)
    return model
