// Launches of the CUDA runtime: kernels are known by the names under which the provider registers them.
#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "device.h"
#include "kernels.h"

using namespace emulated;

namespace {

struct Configuration {
  Dim3 grid, block;
  size_t shared_bytes;
  void* stream;
};

thread_local std::vector<Configuration> configurations;

// Registration happens while libraries are loaded, before this one's statics are.
std::map<const void*, std::string>& registered() {
  static auto& names = *new std::map<const void*, std::string>;
  return names;
}

std::string demangled(const std::string& name) {
  int status;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = text ? text : name;
  free(text);
  return result;
}

Error launch(const void* function, Dim3 grid, void** arguments, void* stream) {
  if (Error error = touch()) return error;
  auto known = registered().find(function);
  if (known == registered().end()) return failed(kInvalidDeviceFunction, "a launch");
  std::string name = demangled(known->second);
  Work work = kernel(name, grid, arguments);
  if (!work) return failed(kNotSupported, ("a launch of " + name).c_str());
  log("kernel " + name.substr(0, name.find('(')));
  return submit(stream, std::move(work));
}

}  // namespace

API void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
API void __cudaRegisterFatBinaryEnd(void**) {}
API void __cudaUnregisterFatBinary(void**) {}
API void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
API void __cudaRegisterFunction(void**, const char* host, char*, const char* device, int, void*, void*, void*, void*, int*) {
  registered()[host] = device;
}
API unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared_bytes, void* stream) {
  configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}
API Error __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared_bytes, void** stream) {
  if (configurations.empty()) return failed(kInvalidConfiguration, "a launch");
  Configuration last = configurations.back();
  configurations.pop_back();
  *grid = last.grid, *block = last.block, *shared_bytes = last.shared_bytes, *stream = last.stream;
  return kSuccess;
}
API Error __cudaGetKernel(const void** kernel, const void* function) {
  *kernel = function;
  return kSuccess;
}
API Error __cudaLaunchKernel(const void* kernel, Dim3 grid, Dim3, void** arguments, size_t, void* stream) {
  return launch(kernel, grid, arguments, stream);
}
API Error cudaLaunchKernel(const void* function, Dim3 grid, Dim3, void** arguments, size_t, void* stream) {
  return launch(function, grid, arguments, stream);
}
API Error cudaLaunchCooperativeKernel(const void* function, Dim3 grid, Dim3, void** arguments, size_t, void* stream) {
  return launch(function, grid, arguments, stream);
}
API Error cudaLaunchKernelExC(const LaunchConfiguration* configuration, const void* function, void** arguments) {
  return launch(function, configuration->grid, arguments, configuration->stream);
}
API Error cudaLaunchHostFunc(void* stream, void (*function)(void*), void* data) {
  return submit(stream, [=] { return function(data), kSuccess; });
}
API Error cudaFuncGetAttributes(FunctionAttributes* attributes, const void*) {
  *attributes = {};
  attributes->max_threads_per_block = 1024;
  attributes->registers = 32;
  return kSuccess;
}
API Error cudaFuncSetAttribute(const void*, int, int) { return kSuccess; }
API Error cudaKernelSetAttributeForDevice(const void*, int, int, int) { return kSuccess; }
API Error cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  *blocks = 2;
  return kSuccess;
}

// Code that is compiled at run time: nothing that mlpserve runs needs it.
API Error cudaLibraryLoadData(void**, const void*, int*, void**, unsigned, int*, void**, unsigned) {
  return failed(kNotSupported, "cudaLibraryLoadData");
}
API Error cudaLibraryGetKernel(void**, void*, const char*) { return failed(kNotSupported, "cudaLibraryGetKernel"); }
API Error cudaLibraryUnload(void*) { return kSuccess; }
