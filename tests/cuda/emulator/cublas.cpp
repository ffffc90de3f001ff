// cuBLAS as far as dense layers in float32 go; what is missing fails with CUBLAS_STATUS_NOT_SUPPORTED.
#include <cstdlib>
#include <string>
#include <vector>

#include "device.h"

using namespace emulated;

namespace {

constexpr int kNotSupportedStatus = 15, kExecutionFailed = 13;
constexpr int kTransposed = 1, kFloat32 = 0, kTf32Math = 3;

struct Handle {
  void* stream = nullptr;
  int math_mode = 0;
};

int status(Error error) { return error ? kExecutionFailed : 0; }

struct Matrix {
  const float* values;
  int leading;
  bool transposed;
  // Column-major, as in Fortran.
  float at(long row, long column) const { return transposed ? values[column + row * leading] : values[row + column * leading]; }
};

size_t extent(int rows, int columns, int leading) { return (size_t(columns - 1) * leading + rows) * sizeof(float); }

// EMULATED_CUDA_WRONG: products have the wrong sign, as those of a GPU that is at its end may.
const bool wrong = getenv("EMULATED_CUDA_WRONG") != nullptr;

// C [m, n] = alpha A [m, k] B [k, n] + beta C
Work product(Matrix a, Matrix b, int m, int n, int k, float alpha, float beta, float* c, int leading) {
  return [=] {
    bool there = on_device(a.values, a.transposed ? extent(k, m, a.leading) : extent(m, k, a.leading)) &&
                 on_device(b.values, b.transposed ? extent(n, k, b.leading) : extent(k, n, b.leading)) &&
                 on_device(c, extent(m, n, leading));
    if (!there) return kIllegalAddress;
    std::vector<float> sums(m);
    for (long column = 0; column < n; column++) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (long inner = 0; inner < k; inner++) {
        float factor = b.at(inner, column);
        if (factor == 0) continue;  // most pixels of a digit are
        for (long row = 0; row < m; row++) sums[row] += a.at(row, inner) * factor;
      }
      float* out = c + column * leading;
      for (long row = 0; row < m; row++) out[row] = (wrong ? -alpha : alpha) * sums[row] + (beta == 0 ? 0 : beta * out[row]);
    }
    return kSuccess;
  };
}

}  // namespace

API int cublasCreate_v2(Handle** handle) {
  *handle = new Handle;
  return 0;
}
API int cublasDestroy_v2(Handle* handle) {
  delete handle;
  return 0;
}
API int cublasSetStream_v2(Handle* handle, void* stream) {
  handle->stream = stream;
  return 0;
}
API int cublasSetMathMode(Handle* handle, int mode) {
  handle->math_mode = mode;
  return 0;
}
API int cublasGetMathMode(Handle* handle, int* mode) {
  *mode = handle->math_mode;
  return 0;
}
API const char* cublasGetStatusName(int code) { return code ? "a status of the emulated cuBLAS" : "CUBLAS_STATUS_SUCCESS"; }
API const char* cublasGetStatusString(int code) { return cublasGetStatusName(code); }
API int cublasSgemm_v2(Handle* handle, int a_form, int b_form, int m, int n, int k, const float* alpha, const float* a, int a_leading,
                       const float* b, int b_leading, const float* beta, float* c, int c_leading) {
  log(std::string("cublasSgemm") + (handle->math_mode == kTf32Math ? " in TF32" : ""));
  Matrix left{a, a_leading, a_form == kTransposed}, right{b, b_leading, b_form == kTransposed};
  return status(submit(handle->stream, product(left, right, m, n, k, *alpha, *beta, c, c_leading)));
}
API int cublasGemmEx(Handle* handle, int a_form, int b_form, int m, int n, int k, const void* alpha, const void* a, int a_type, int a_leading,
                     const void* b, int b_type, int b_leading, const void* beta, void* c, int c_type, int c_leading, int, int) {
  if (a_type != kFloat32 || b_type != kFloat32 || c_type != kFloat32) return kNotSupportedStatus;
  return cublasSgemm_v2(handle, a_form, b_form, m, n, k, static_cast<const float*>(alpha), static_cast<const float*>(a), a_leading,
                        static_cast<const float*>(b), b_leading, static_cast<const float*>(beta), static_cast<float*>(c), c_leading);
}
API int cublasScopy_v2(Handle* handle, int n, const float* x, int x_step, float* y, int y_step) {
  log("cublasScopy");
  return status(submit(handle->stream, [=] {
    if (!on_device(x, sizeof(float)) || !on_device(y, extent(1, n, y_step))) return kIllegalAddress;
    for (long i = 0; i < n; i++) y[i * y_step] = x[i * x_step];
    return kSuccess;
  }));
}

#define NOT_THERE(name) \
  API int name() { return log("missing: " #name), kNotSupportedStatus; }
NOT_THERE(cublasSscal_v2)
NOT_THERE(cublasDgeam)
NOT_THERE(cublasDgemmBatched)
NOT_THERE(cublasDgemmStridedBatched)
NOT_THERE(cublasDgemm_v2)
NOT_THERE(cublasDgetrfBatched)
NOT_THERE(cublasDgetriBatched)
NOT_THERE(cublasGemmBatchedEx)
NOT_THERE(cublasGemmStridedBatchedEx)
NOT_THERE(cublasSgeam)
NOT_THERE(cublasSgemmBatched)
NOT_THERE(cublasSgemmStridedBatched)
NOT_THERE(cublasSgetrfBatched)
NOT_THERE(cublasSgetriBatched)
