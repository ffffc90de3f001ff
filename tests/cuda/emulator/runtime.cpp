// The CUDA runtime library but for launches: devices, memory, streams, events and graphs.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "device.h"

using namespace emulated;

#define RETURN_IF(expression) \
  do {                        \
    if (Error error_ = (expression)) return error_; \
  } while (0)

// ---- devices

API Error cudaGetDeviceCount(int* count) {
  *count = 0;
  if (driver_version() / 1000 < 13) return failed(kInsufficientDriver, "cudaGetDeviceCount");
  if (device_count() == 0) return failed(kNoDevice, "cudaGetDeviceCount");
  *count = device_count();
  return kSuccess;
}
API Error cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return failed(kInvalidDevice, "cudaSetDevice");
  current_device() = device;
  return touch();
}
API Error cudaGetDevice(int* device) {
  *device = current_device();
  return kSuccess;
}
API Error cudaGetDeviceProperties(DeviceProperties* properties, int device) {
  if (device < 0 || device >= device_count()) return failed(kInvalidDevice, "cudaGetDeviceProperties");
  // Of an H100, as far as the provider chooses by them.
  *properties = {};
  strcpy(properties->name, "Emulated GPU");
  properties->total_memory = memory_total();
  properties->shared_per_block = 48 << 10;
  properties->shared_per_block_optin = 227 << 10;
  properties->shared_per_multiprocessor = 228 << 10;
  properties->registers_per_block = properties->registers_per_multiprocessor = 65536;
  properties->warp_size = 32;
  properties->max_threads_per_block = properties->max_threads[0] = properties->max_threads[1] = 1024;
  properties->max_threads[2] = 64;
  properties->max_grid[0] = 2147483647;
  properties->max_grid[1] = properties->max_grid[2] = 65535;
  properties->constant_memory = 64 << 10;
  properties->major = 9;
  properties->multiprocessors = 132;
  properties->max_threads_per_multiprocessor = 2048;
  properties->l2_cache = 50 << 20;
  properties->bus_width = 5120;
  properties->unified_addressing = properties->concurrent_kernels = properties->cooperative_launch = 1;
  return kSuccess;
}
API Error cudaDeviceGetAttribute(int* value, int attribute, int device) {
  DeviceProperties properties;
  RETURN_IF(cudaGetDeviceProperties(&properties, device));
  switch (attribute) {
    case kMaxThreadsPerBlock: *value = properties.max_threads_per_block; break;
    case kMaxSharedMemoryPerBlock: *value = properties.shared_per_block; break;
    case kMaxSharedMemoryPerBlockOptin: *value = properties.shared_per_block_optin; break;
    case kWarpSize: *value = properties.warp_size; break;
    case kMultiProcessorCount: *value = properties.multiprocessors; break;
    case kComputeCapabilityMajor: *value = properties.major; break;
    default: *value = 0;
  }
  return kSuccess;
}
API Error cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (device < 0 || device >= device_count()) return failed(kInvalidDevice, "cudaDeviceGetPCIBusId");
  snprintf(text, length, "%s", bus_id(device).c_str());
  return kSuccess;
}
API Error cudaDeviceSynchronize() {
  RETURN_IF(touch());
  return synchronise_device();
}
API Error cudaDriverGetVersion(int* version) {
  *version = driver_version();
  return kSuccess;
}
API Error cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
API Error cudaGetLastError() {
  Error error = last_error();
  last_error() = kSuccess;
  return error;
}
API Error cudaPeekAtLastError() { return last_error(); }
API const char* cudaGetErrorString(Error error) { return error_text(error); }
API const char* cudaGetErrorName(Error error) { return error_text(error); }
API Error cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long, int* result) {
  *function = nullptr;
  if (result) *result = 1;  // not found
  return kSuccess;
}

// ---- memory

API Error cudaMalloc(void** pointer, size_t bytes) {
  RETURN_IF(touch());
  return allocate(pointer, bytes);
}
API Error cudaMallocFromPoolAsync(void** pointer, size_t bytes, void*, void*) { return cudaMalloc(pointer, bytes); }
API Error cudaFree(void* pointer) { return release(pointer); }
API Error cudaFreeAsync(void* pointer, void*) { return release(pointer); }
API Error cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  RETURN_IF(touch());
  *pointer = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return pin(*pointer, bytes);
}
API Error cudaMallocHost(void** pointer, size_t bytes) { return cudaHostAlloc(pointer, bytes, 0); }
API Error cudaFreeHost(void* pointer) {
  RETURN_IF(unpin(pointer));
  free(pointer);
  return kSuccess;
}
API Error cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  RETURN_IF(touch());
  return pin(pointer, bytes);
}
API Error cudaHostUnregister(void* pointer) {
  RETURN_IF(touch());
  return unpin(pointer);
}
API Error cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  RETURN_IF(touch());
  *total = memory_total();
  *free_bytes = *total - memory_used(current_device());
  return kSuccess;
}
API Error cudaPointerGetAttributes(PointerAttributes* attributes, const void* pointer) {
  *attributes = {};
  int device = owner(pointer, 1);
  attributes->type = device >= 0 ? kDevice : is_pinned(pointer) ? kHost : kUnregistered;
  attributes->device = device >= 0 ? device : attributes->type == kHost ? current_device() : -2;
  attributes->device_pointer = attributes->type == kUnregistered ? nullptr : const_cast<void*>(pointer);
  attributes->host_pointer = device >= 0 ? nullptr : const_cast<void*>(pointer);
  return kSuccess;
}

// Which way the bytes go; nothing for a direction that the addresses contradict.
static const char* way(void* to, const void* from, size_t bytes, int kind) {
  bool out = owner(from, bytes) >= 0, in = owner(to, bytes) >= 0;
  int actual = out ? (in ? kDeviceToDevice : kDeviceToHost) : in ? kHostToDevice : kHostToHost;
  if (kind != kDefault && kind != actual) return nullptr;
  static const char* names[] = {"on the host", "in", "out", "within"};
  return names[actual];
}
API Error cudaMemcpyAsync(void* to, const void* from, size_t bytes, int kind, void* stream) {
  if (bytes == 0) return kSuccess;
  const char* direction = way(to, from, bytes, kind);
  if (!direction) return failed(kInvalidValue, "cudaMemcpyAsync");
  log(std::string("copy ") + direction + " " + std::to_string(bytes) +
      (kind == kHostToDevice ? is_pinned(from) ? " pinned" : " pageable" : kind == kDeviceToHost ? is_pinned(to) ? " pinned" : " pageable" : ""));
  if (kind == kHostToDevice && !is_pinned(from) && !is_capturing(stream)) {
    // The driver takes pageable memory as it is now.
    auto staged = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
    return submit(stream, [=] { return memcpy(to, staged->data(), bytes), kSuccess; });
  }
  RETURN_IF(submit(stream, [=] { return memmove(to, from, bytes), kSuccess; }));
  bool waits = kind == kDeviceToHost && !is_pinned(to) && !is_capturing(stream);
  return waits ? synchronise(stream) : kSuccess;
}
API Error cudaMemcpy(void* to, const void* from, size_t bytes, int kind) { return cudaMemcpyAsync(to, from, bytes, kind, nullptr); }
API Error cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height, int kind, void* stream) {
  if (height == 0 || width == 0) return kSuccess;
  if (!way(to, from, width, kind)) return failed(kInvalidValue, "cudaMemcpy2DAsync");
  log("copy rows " + std::to_string(width * height));
  return submit(stream, [=] {
    for (size_t row = 0; row < height; row++)
      memmove(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
    return kSuccess;
  });
}
API Error cudaMemcpyFromSymbol(void*, const void*, size_t, size_t, int) { return failed(kNotSupported, "cudaMemcpyFromSymbol"); }
API Error cudaMemsetAsync(void* pointer, int value, size_t bytes, void* stream) {
  return submit(stream, [=] {
    if (!on_device(pointer, bytes)) return kIllegalAddress;
    memset(pointer, value, bytes);
    return kSuccess;
  });
}
API Error cudaMemset(void* pointer, int value, size_t bytes) { return cudaMemsetAsync(pointer, value, bytes, nullptr); }

// Pools give what allocations give; nobody here looks at their attributes.
API Error cudaMemPoolCreate(void** pool, const void*) {
  *pool = malloc(1);
  return kSuccess;
}
API Error cudaMemPoolDestroy(void* pool) {
  free(pool);
  return kSuccess;
}
API Error cudaMemPoolGetAttribute(void*, int, void* value) {
  *static_cast<uint64_t*>(value) = 0;
  return kSuccess;
}
API Error cudaMemPoolSetAttribute(void*, int, void*) { return kSuccess; }
API Error cudaMemPoolTrimTo(void*, size_t) { return kSuccess; }

// ---- streams, events and graphs

API Error cudaStreamCreateWithFlags(void** stream, unsigned flags) {
  RETURN_IF(touch());
  *stream = new_stream(!(flags & 1));
  return kSuccess;
}
API Error cudaStreamCreate(void** stream) { return cudaStreamCreateWithFlags(stream, 0); }
API Error cudaStreamDestroy(void* stream) { return delete_stream(stream); }
API Error cudaStreamSynchronize(void* stream) { return synchronise(stream); }
API Error cudaStreamWaitEvent(void* stream, void* event, unsigned) { return wait_in_stream(event, stream); }
API Error cudaStreamBeginCapture(void* stream, int) { return begin_capture(stream); }
API Error cudaStreamEndCapture(void* stream, void** graph) { return end_capture(stream, graph); }
API Error cudaStreamIsCapturing(void* stream, int* status) {
  *status = is_capturing(stream);
  return kSuccess;
}
API Error cudaGraphInstantiate(void** executable, void* graph, unsigned long long) {
  *executable = copy_graph(graph);
  return kSuccess;
}
API Error cudaGraphLaunch(void* executable, void* stream) {
  log("graph");
  return replay(executable, stream);
}
API Error cudaGraphDestroy(void* graph) {
  delete_graph(graph);
  return kSuccess;
}
API Error cudaGraphExecDestroy(void* executable) { return cudaGraphDestroy(executable); }
API Error cudaEventCreateWithFlags(void** event, unsigned) {
  *event = new_event();
  return kSuccess;
}
API Error cudaEventCreate(void** event) { return cudaEventCreateWithFlags(event, 0); }
API Error cudaEventDestroy(void* event) {
  delete_event(event);
  return kSuccess;
}
API Error cudaEventRecord(void* event, void* stream) { return record(event, stream); }
API Error cudaEventRecordWithFlags(void* event, void* stream, unsigned) { return record(event, stream); }
API Error cudaEventSynchronize(void* event) { return wait(event); }
API Error cudaEventElapsedTime(float* milliseconds, void*, void*) {
  *milliseconds = 0;  // time means nothing here
  return kSuccess;
}
