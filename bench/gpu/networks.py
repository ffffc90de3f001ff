"""The networks that the other checks time, as ONNX files: a process that imports PyTorch writes them, one that does not
runs them.

Weights of the published network are real; those of `best` have its shape, and are random.
"""

import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.gpu.check import Case
from mlpserve_trainer.config import configure
from mlpserve_trainer.export.onnx_graph import to_onnx
from mlpserve_trainer.export.quantize import Dense, FoldedNetwork
from mlpserve_trainer.networks.convolutional_start import map_sizes

PUBLISHED, BEST = "784-256-10", "best"
PIXELS, CLASSES = 784, 10


def write(case: Case) -> None:
    """WORK/networks/NAME.onnx and NAME.fp16.onnx."""
    folder = case.work / "networks"
    folder.mkdir(exist_ok=True)
    models = {PUBLISHED: onnx.load(str(case.version / "model.onnx")), BEST: _random_best(case.quick)}
    for name, model in models.items():
        for suffix, content in (("", model), (".fp16", half(model))):
            file = folder / f"{name}{suffix}.onnx"
            onnx.save(content, str(file))
            print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB", flush=True)


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its products in fp16, and softmax and answers in float32 as before."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for item in graph.initializer:
        if item.data_type == TensorProto.FLOAT:
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), item.name))
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] == "images":
            node.attribute[0].i = TensorProto.FLOAT16
        if node.op_type == "Softmax":
            nodes.append(helper.make_node("Cast", [node.input[0]], ["logits_float"], to=TensorProto.FLOAT))
            node.input[0] = "logits_float"
        nodes.append(node)
    ordered = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)
    onnx.checker.check_model(result, full_check=True)
    return result


def _random_best(quick: bool) -> onnx.ModelProto:
    best = configure("best")
    hidden = (64,) if quick else (*map_sizes(28, 28, best.start_channels), *best.hidden)
    random = np.random.default_rng(0)
    sizes = (PIXELS, *hidden, CLASSES)
    layers = []
    for number, (inputs, units) in enumerate(itertools.pairwise(sizes)):
        scale = np.sqrt(2 / inputs) * (1 / 255 if number == 0 else 1)  # the first sees bytes
        weights = (random.standard_normal((inputs, units)) * scale).astype(np.float32)
        layers.append(Dense(weights, np.zeros(units, np.float32)))
    return to_onnx(FoldedNetwork(tuple(layers), best.activation))
