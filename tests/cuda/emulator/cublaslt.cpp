// cuBLASLt: the provider links it and makes a handle; no layer of an MLP comes here.
#include <cstdlib>

#include "device.h"

API int cublasLtCreate(void** handle) {
  *handle = malloc(1);
  return 0;
}
API int cublasLtDestroy(void* handle) {
  free(handle);
  return 0;
}

#define NOT_THERE(name) \
  API int name() { return emulated::log("missing: " #name), 15; }
NOT_THERE(cublasLtMatmul)
NOT_THERE(cublasLtMatmulAlgoConfigSetAttribute)
NOT_THERE(cublasLtMatmulAlgoGetHeuristic)
NOT_THERE(cublasLtMatmulAlgoInit)
NOT_THERE(cublasLtMatmulDescCreate)
NOT_THERE(cublasLtMatmulDescDestroy)
NOT_THERE(cublasLtMatmulDescSetAttribute)
NOT_THERE(cublasLtMatmulPreferenceCreate)
NOT_THERE(cublasLtMatmulPreferenceDestroy)
NOT_THERE(cublasLtMatmulPreferenceSetAttribute)
NOT_THERE(cublasLtMatrixLayoutCreate)
NOT_THERE(cublasLtMatrixLayoutDestroy)
NOT_THERE(cublasLtMatrixLayoutSetAttribute)
NOT_THERE(cublasLtMatrixTransform)
NOT_THERE(cublasLtMatrixTransformDescCreate)
NOT_THERE(cublasLtMatrixTransformDescDestroy)
