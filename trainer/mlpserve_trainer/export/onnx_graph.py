"""ONNX files from a folded network.

Both files have the same interface: `images` uint8 [N, D] in; `class_ids` int32 [N], `scores` float32 [N] and
`probabilities` float32 [N, C] out. Opset and IR version are pinned to what the oldest supported ONNX Runtime reads.
The graphs are built node by node, not traced from PyTorch, from operators that need no cuDNN on a GPU; see
docs/decisions/002-onnx-graph.md.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlpserve_trainer.export.quantize import Dense, FoldedNetwork

OPSET = 20
IR_VERSION = 10

ACTIVATION_NODES = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "gelu": "Gelu"}


def to_onnx(network: FoldedNetwork) -> onnx.ModelProto:
    """Build the ONNX model of a network and check it."""
    graph = _Graph()
    x = graph.first_layer(network.layers[0])
    for index, layer in enumerate(network.layers[1:], start=1):
        x = graph.node(ACTIVATION_NODES[network.activation], x)
        x = graph.gemm(x, layer, index)
    probabilities = graph.node("Softmax", x, output="probabilities", axis=1)
    graph.best_class(probabilities)

    inputs, classes = network.layers[0].weights.shape[0], network.layers[-1].weights.shape[1]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mlp",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", inputs])],
            [
                helper.make_tensor_value_info("class_ids", TensorProto.INT32, ["N"]),
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N"]),
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes]),
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mlpserve",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and initializers under construction; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def first_layer(self, layer: Dense) -> str:
        if layer.scales is None:
            return self.gemm(self.node("Cast", "images", to=TensorProto.FLOAT), layer, 0)
        sums = self.node("MatMulInteger", "images", self.constant("weights_0", layer.weights))
        scaled = self.node(
            "Mul", self.node("Cast", sums, to=TensorProto.FLOAT), self.constant("scales_0", layer.scales)
        )
        return self.node("Add", scaled, self.constant("biases_0", layer.biases))

    def gemm(self, x: str, layer: Dense, index: int) -> str:
        weights = self.constant(f"weights_{index}", layer.weights)
        return self.node("Gemm", x, weights, self.constant(f"biases_{index}", layer.biases))

    def best_class(self, probabilities: str) -> None:
        """Add `class_ids` and `scores`; in a tie, the first class wins."""
        columns = self.constant("class_axis", np.array([1], np.int64))
        best = self.node("ArgMax", probabilities, axis=1, keepdims=1)
        # Not ReduceMax: ONNX Runtime's CUDA provider computes that with cuDNN, a gigabyte that nothing else needs.
        self.node("Squeeze", self.node("GatherElements", probabilities, best, axis=1), columns, output="scores")
        self.node("Cast", self.node("Squeeze", best, columns), output="class_ids", to=TensorProto.INT32)
