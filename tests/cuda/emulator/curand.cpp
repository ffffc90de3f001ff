// cuRAND: the provider links it, and calls nothing of it for an MLP.
#include "cuda_types.h"

API int curandGetVersion(int* version) {
  *version = 10400;
  return 0;
}
