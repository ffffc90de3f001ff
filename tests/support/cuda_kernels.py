"""What computes the operators of an exported float32 file on a GPU."""

# Operator → what ONNX Runtime's CUDA provider computes it with: a function of cuBLAS, or kernels of its own.
# Not here, because they would need cuDNN: reductions (ReduceMax …), convolutions, pooling, normalisations.
KERNELS = {
    "ArgMax": "arg_min_max_last_axis_",
    "Cast": "OP_Cast",
    "GatherElements": "_GatherScatterElementsKernel",
    "Gelu": "OP_Gelu",
    "Gemm": "cublasSgemm",  # after BroadcastBiasKernel
    "Relu": "OP_Relu",
    "Sigmoid": "OP_Sigmoid",
    "Softmax": "softmax_",
    "Squeeze": "",  # a copy, or none
    "Tanh": "OP_Tanh",
}
