// NVML: memory and use of the emulated GPUs, in the process that uses them.
#include <cstdint>
#include <string>

#include "device.h"

using namespace emulated;

namespace {

constexpr int kUninitialised = 1, kNotFound = 6, kDriverNotLoaded = 9;
int initialised = 0;
int devices[64];  // a handle is the address of its number

struct Memory {
  unsigned long long total, free, used;
};

struct Utilisation {
  unsigned gpu, memory;
};

}  // namespace

API int nvmlInitWithFlags(unsigned) {
  if (device_count() == 0) return kDriverNotLoaded;
  initialised++;
  return 0;
}
API int nvmlInit_v2() { return nvmlInitWithFlags(0); }
API int nvmlShutdown() {
  if (!initialised) return kUninitialised;
  initialised--;
  return 0;
}
API const char* nvmlErrorString(int code) {
  return code == kDriverNotLoaded ? "Driver Not Loaded" : code == kNotFound ? "Not Found" : code == kUninitialised ? "Uninitialized" : "Unknown Error";
}
API int nvmlDeviceGetHandleByPciBusId_v2(const char* id, int** handle) {
  if (!initialised) return kUninitialised;
  for (int device = 0; device < device_count(); device++) {
    if (bus_id(device) != id) continue;
    devices[device] = device;
    *handle = &devices[device];
    return 0;
  }
  return kNotFound;
}
API int nvmlDeviceGetMemoryInfo(int* handle, Memory* memory) {
  if (!initialised) return kUninitialised;
  memory->total = memory_total();
  memory->used = memory_used(*handle);
  memory->free = memory->total - memory->used;
  return 0;
}
API int nvmlDeviceGetUtilizationRates(int*, Utilisation* rates) {
  if (!initialised) return kUninitialised;
  *rates = {25, 5};
  return 0;
}
