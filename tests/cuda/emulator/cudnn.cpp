// cuDNN 9 as far as files of older trainers need it: the largest value of each row, which is their ReduceMax.
#include <algorithm>
#include <cstring>
#include <vector>

#include "device.h"

using namespace emulated;

namespace {

constexpr int kBadParameter = 2000, kNotSupportedStatus = 3000;
constexpr int kFloat = 0, kMaximum = 3;

struct Handle {
  void* stream = nullptr;
};

struct Tensor {
  std::vector<int> sizes;
};

struct Reduction {
  int operation = 0;
};

}  // namespace

API size_t cudnnGetVersion() { return 91900; }
API const char* cudnnGetErrorString(int code) { return code ? "an error of the emulated cuDNN" : "CUDNN_STATUS_SUCCESS"; }
API void cudnnGetLastErrorString(char* text, size_t length) {
  if (length) *text = 0;
}
API int cudnnCreate(Handle** handle) {
  log("cudnnCreate");
  *handle = new Handle;
  return 0;
}
API int cudnnDestroy(Handle* handle) {
  delete handle;
  return 0;
}
API int cudnnSetStream(Handle* handle, void* stream) {
  handle->stream = stream;
  return 0;
}
API int cudnnCreateTensorDescriptor(Tensor** tensor) {
  *tensor = new Tensor;
  return 0;
}
API int cudnnDestroyTensorDescriptor(Tensor* tensor) {
  delete tensor;
  return 0;
}
API int cudnnSetTensorNdDescriptor(Tensor* tensor, int type, int count, const int* sizes, const int*) {
  tensor->sizes.assign(sizes, sizes + count);
  return type == kFloat ? 0 : kNotSupportedStatus;
}
API int cudnnCreateReduceTensorDescriptor(Reduction** reduction) {
  *reduction = new Reduction;
  return 0;
}
API int cudnnDestroyReduceTensorDescriptor(Reduction* reduction) {
  delete reduction;
  return 0;
}
API int cudnnSetReduceTensorDescriptor(Reduction* reduction, int operation, int, int, int, int) {
  reduction->operation = operation;
  return 0;
}
API int cudnnGetReductionIndicesSize(Handle*, Reduction*, Tensor*, Tensor*, size_t* bytes) {
  *bytes = 0;
  return 0;
}
API int cudnnGetReductionWorkspaceSize(Handle*, Reduction*, Tensor*, Tensor*, size_t* bytes) {
  *bytes = 0;
  return 0;
}
API int cudnnReduceTensor(Handle* handle, Reduction* reduction, void*, size_t, void*, size_t, const float*, Tensor* in, const float* x,
                          const float*, Tensor* out, float* y) {
  if (in->sizes.size() < 2 || out->sizes.size() < 2) return kBadParameter;
  if (reduction->operation != kMaximum || out->sizes[0] != in->sizes[0] || out->sizes[1] != 1) return kNotSupportedStatus;
  log("cudnnReduceTensor");
  long rows = in->sizes[0], columns = in->sizes[1];
  return submit(handle->stream, [=] {
    if (!on_device(x, rows * columns * sizeof(float)) || !on_device(y, rows * sizeof(float))) return kIllegalAddress;
    for (long row = 0; row < rows; row++) y[row] = *std::max_element(x + row * columns, x + (row + 1) * columns);
    return kSuccess;
  });
}
