// The kernels that an exported MLP needs, computed on the host. Their arguments are those of onnxruntime-gpu 1.31; a kernel
// that is not here, or whose template is another, fails its launch with "operation not supported" and its name in the log.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace emulated {
namespace {

bool has(const std::string& name, const char* part) { return name.find(part) != std::string::npos; }

template <class T>
T argument(void** arguments, int index) {
  return *static_cast<T*>(arguments[index]);
}

// _UnaryElementWise(input, output, functor, count)
template <class In, class Out, class Function>
Work element_wise(void** arguments, Function function) {
  auto x = argument<const In*>(arguments, 0);
  auto y = argument<Out*>(arguments, 1);
  long count = argument<long>(arguments, 3);
  return [=] {
    if (!on_device(x, count * sizeof(In)) || !on_device(y, count * sizeof(Out))) return kIllegalAddress;
    for (long i = 0; i < count; i++) y[i] = function(x[i]);
    return kSuccess;
  };
}

void softmax_of_row(const float* x, float* y, int classes) {
  float largest = *std::max_element(x, x + classes), sum = 0;
  for (int i = 0; i < classes; i++) sum += y[i] = std::exp(x[i] - largest);
  for (int i = 0; i < classes; i++) y[i] /= sum;
}

Work softmax(float* y, const float* x, int rows, int stride, int classes) {
  return [=] {
    size_t bytes = (size_t(rows - 1) * stride + classes) * sizeof(float);
    if (!on_device(x, bytes) || !on_device(y, bytes)) return kIllegalAddress;
    for (int row = 0; row < rows; row++) softmax_of_row(x + long(row) * stride, y + long(row) * stride, classes);
    return kSuccess;
  };
}

// Of values that are as good, the first.
Work arg_max(const float* x, long* y, int rows, int columns) {
  return [=] {
    if (!on_device(x, size_t(rows) * columns * sizeof(float)) || !on_device(y, rows * sizeof(long))) return kIllegalAddress;
    for (int row = 0; row < rows; row++) {
      const float* first = x + long(row) * columns;
      y[row] = std::max_element(first, first + columns) - first;
    }
    return kSuccess;
  };
}

// BroadcastBiasKernel(bias, output, count, columns and how to divide by them, row stride, column stride, factor)
Work broadcast(void** arguments) {
  auto bias = argument<const float*>(arguments, 0);
  auto y = argument<float*>(arguments, 1);
  long count = argument<long>(arguments, 2);
  int columns = argument<int>(arguments, 3), row_stride = argument<int>(arguments, 4), column_stride = argument<int>(arguments, 5);
  return [=] {
    if (!on_device(bias, sizeof(float)) || !on_device(y, count * sizeof(float))) return kIllegalAddress;
    for (long i = 0; i < count; i++) y[i] = bias[i / columns * row_stride + i % columns * column_stride];
    return kSuccess;
  };
}

// _GatherScatterElementsKernel(data, indices, output, size of the axis, stride of the axis, …, …, count), one index a row
Work gather(void** arguments) {
  auto x = argument<const float*>(arguments, 0);
  auto indices = argument<const long*>(arguments, 1);
  auto y = argument<float*>(arguments, 2);
  long columns = argument<long>(arguments, 3);
  int count = argument<int>(arguments, 7);
  return [=] {
    bool there = on_device(x, count * columns * sizeof(float)) && on_device(indices, count * sizeof(long)) && on_device(y, count * sizeof(float));
    if (!there) return kIllegalAddress;
    for (long i = 0; i < count; i++) {
      if (indices[i] < 0 || indices[i] >= columns) return kIllegalAddress;
      y[i] = x[i * columns + indices[i]];
    }
    return kSuccess;
  };
}

}  // namespace

Work kernel(const std::string& name, Dim3 grid, void** arguments) {
  if (has(name, "OP_Cast<unsigned char, float>")) return element_wise<unsigned char, float>(arguments, [](unsigned char x) { return float(x); });
  if (has(name, "OP_Cast<long, int>")) return element_wise<long, int>(arguments, [](long x) { return int(x); });
  if (has(name, "OP_Relu<float>")) return element_wise<float, float>(arguments, [](float x) { return std::max(x, 0.0f); });
  if (has(name, "OP_Sigmoid<float>")) return element_wise<float, float>(arguments, [](float x) { return 1 / (1 + std::exp(-x)); });
  if (has(name, "OP_Tanh<float>")) return element_wise<float, float>(arguments, [](float x) { return std::tanh(x); });
  if (has(name, "OP_Gelu<float>")) return element_wise<float, float>(arguments, [](float x) { return x / 2 * (1 + std::erf(x * float(M_SQRT1_2))); });
  if (has(name, "softmax_warp_forward<float, float, float")) {
    return softmax(argument<float*>(arguments, 0), argument<const float*>(arguments, 1), argument<int>(arguments, 2), argument<int>(arguments, 3), argument<int>(arguments, 4));
  }
  if (has(name, "softmax_block_forward<4, float, float, float")) {  // a block a row
    return softmax(argument<float*>(arguments, 0), argument<const float*>(arguments, 1), grid.x, argument<int>(arguments, 3), argument<int>(arguments, 2));
  }
  if (has(name, "arg_min_max_last_axis_kernel<float, true>")) {
    return arg_max(argument<const float*>(arguments, 0), argument<long*>(arguments, 1), argument<int>(arguments, 2), argument<int>(arguments, 3));
  }
  if (has(name, "arg_min_max_last_axis_cooperative_kernel<float, true>")) {  // from 128 columns on
    return arg_max(argument<const float*>(arguments, 2), argument<long*>(arguments, 3), argument<int>(arguments, 0), argument<int>(arguments, 1));
  }
  if (has(name, "BroadcastBiasKernel<float, int, false>")) return broadcast(arguments);
  if (has(name, "_GatherScatterElementsKernel<float, long, true")) return gather(arguments);
  return nullptr;
}

}  // namespace emulated
