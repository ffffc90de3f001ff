// Devices, memory and failures on demand. Environment variables, read once but for the last:
//   EMULATED_CUDA_DEVICES  how many GPUs there are (1)
//   EMULATED_CUDA_MEMORY   bytes of memory of each (80 GiB); beyond them allocations fail
//   EMULATED_CUDA_VERSION  the version of CUDA that the driver knows (13000)
//   EMULATED_CUDA_LOG      a file that gets a line for every context, kernel, product and copy
//   EMULATED_CUDA_WRONG    where it is set, products of matrices are wrong (cublas.cpp)
//   EMULATED_CUDA_BROKEN   a file; as long as it exists, every device is broken
#include "device.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

namespace emulated {
namespace {

constexpr size_t kPage = 4096;

struct Block {
  size_t bytes;
  int device;
};

// Never destroyed: the provider gives its memory back after static destructors have run.
auto& mutex_ = *new std::recursive_mutex;
auto& memory_ = *new std::map<const char*, Block>;         // by first address
auto& pinned_ = *new std::map<const char*, const char*>;   // first address → end
auto& pinned_pages_ = *new std::set<uintptr_t>;
auto& used_ = *new std::map<int, size_t>;                  // by device
auto& contexts_ = *new std::set<int>;
Error broken_ = kSuccess;                                  // for good, as after an illegal address

size_t setting(const char* name, size_t otherwise) {
  const char* text = getenv(name);
  return text ? strtoull(text, nullptr, 10) : otherwise;
}

// The pages that hold some bytes.
std::set<uintptr_t> pages(const char* first, const char* end) {
  std::set<uintptr_t> numbers;
  for (uintptr_t page = uintptr_t(first) / kPage; page * kPage < uintptr_t(end); page++) numbers.insert(page);
  return numbers;
}

}  // namespace

int& current_device() {
  static thread_local int device = 0;
  return device;
}

int device_count() {
  static int count = setting("EMULATED_CUDA_DEVICES", 1);
  return count;
}

int driver_version() {
  static int version = setting("EMULATED_CUDA_VERSION", 13000);
  return version;
}

size_t memory_total() {
  static size_t total = setting("EMULATED_CUDA_MEMORY", size_t(80) << 30);
  return total;
}

size_t memory_used(int device) {
  std::lock_guard guard(mutex_);
  return used_[device];
}

std::string bus_id(int device) {
  char text[16];
  snprintf(text, sizeof text, "0000:%02X:00.0", 0xE0 + device);
  return text;
}

Error touch() {
  std::lock_guard guard(mutex_);
  if (driver_version() / 1000 < 13) return failed(kInsufficientDriver, "the driver");
  if (device_count() == 0) return failed(kNoDevice, "the driver");
  if (contexts_.insert(current_device()).second) log("context on " + std::to_string(current_device()));
  static const char* file = getenv("EMULATED_CUDA_BROKEN");
  if (file && access(file, F_OK) == 0) return failed(kLaunchFailure, "the device");
  return broken_ ? failed(broken_, "the device") : kSuccess;
}

Error& last_error() {
  static thread_local Error error = kSuccess;
  return error;
}

Error failed(Error error, const char* where) {
  if (error) {
    last_error() = error;
    log(std::string("failed: ") + where + ": " + error_text(error));
  }
  return error;
}

const char* error_text(int error) {
  switch (error) {
    case kSuccess: return "no error";
    case kInvalidValue: return "invalid argument";
    case kOutOfMemory: return "out of memory";
    case kInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case kNoDevice: return "no CUDA-capable device is detected";
    case kInvalidDevice: return "invalid device ordinal";
    case kInvalidDeviceFunction: return "invalid device function";
    case kInvalidResourceHandle: return "invalid resource handle";
    case kIllegalAddress: return "an illegal memory access was encountered";
    case kHostMemoryAlreadyRegistered: return "part or all of the requested memory range is already mapped";
    case kHostMemoryNotRegistered: return "pointer does not correspond to a registered memory region";
    case kLaunchFailure: return "unspecified launch failure";
    case kNotSupported: return "operation not supported";
    case kStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "an error that the emulator does not know";
  }
}

Error allocate(void** pointer, size_t bytes) {
  std::lock_guard guard(mutex_);
  *pointer = nullptr;
  int device = current_device();
  if (used_[device] + bytes > memory_total()) return failed(kOutOfMemory, "an allocation");
  size_t whole = (bytes + 255) / 256 * 256 + 256;
  char* block = static_cast<char*>(aligned_alloc(256, whole));
  memset(block, 0xCD, whole);  // so that what nobody wrote is seen
  memory_[block] = {bytes, device};
  used_[device] += bytes;
  *pointer = block;
  return kSuccess;
}

Error release(void* pointer) {
  if (!pointer) return kSuccess;
  synchronise_device();
  std::lock_guard guard(mutex_);
  auto block = memory_.find(static_cast<char*>(pointer));
  if (block == memory_.end()) return failed(kInvalidValue, "giving back memory");
  used_[block->second.device] -= block->second.bytes;
  memset(pointer, 0xDD, block->second.bytes);
  memory_.erase(block);
  free(pointer);
  return kSuccess;
}

// As on a GPU whole pages are pinned, and none can be pinned twice.
Error pin(void* pointer, size_t bytes) {
  std::lock_guard guard(mutex_);
  auto first = static_cast<const char*>(pointer);
  auto wanted = pages(first, first + bytes);
  for (auto page : wanted)
    if (pinned_pages_.count(page)) return failed(kHostMemoryAlreadyRegistered, "pinning memory");
  pinned_pages_.insert(wanted.begin(), wanted.end());
  pinned_[first] = first + bytes;
  return kSuccess;
}

Error unpin(void* pointer) {
  std::lock_guard guard(mutex_);
  auto region = pinned_.find(static_cast<const char*>(pointer));
  if (region == pinned_.end()) return failed(kHostMemoryNotRegistered, "unpinning memory");
  for (auto page : pages(region->first, region->second)) pinned_pages_.erase(page);
  pinned_.erase(region);
  return kSuccess;
}

bool is_pinned(const void* pointer) {
  std::lock_guard guard(mutex_);
  return pinned_pages_.count(uintptr_t(pointer) / kPage);
}

int owner(const void* pointer, size_t bytes) {
  std::lock_guard guard(mutex_);
  auto first = static_cast<const char*>(pointer);
  auto block = memory_.upper_bound(first);
  if (block == memory_.begin()) return -1;
  --block;
  return first + bytes <= block->first + block->second.bytes ? block->second.device : -1;
}

bool on_device(const void* pointer, size_t bytes) {
  if (owner(pointer, bytes) >= 0) return true;
  std::lock_guard guard(mutex_);
  broken_ = failed(kIllegalAddress, "what runs on the device");
  return false;
}

void log(const std::string& line) {
  static FILE* file = getenv("EMULATED_CUDA_LOG") ? fopen(getenv("EMULATED_CUDA_LOG"), "a") : nullptr;
  if (!file) return;
  std::lock_guard guard(mutex_);
  fprintf(file, "%s\n", line.c_str());
  fflush(file);
}

}  // namespace emulated

// The driver's own functions, as far as anybody here calls them.
API int cuInit(unsigned) { return emulated::device_count() ? kSuccess : kNoDevice; }
API int cuDriverGetVersion(int* version) {
  *version = emulated::driver_version();
  return kSuccess;
}
API int cuGetErrorString(int error, const char** text) {
  *text = emulated::error_text(error);
  return kSuccess;
}
API int cuTensorMapEncodeTiled() { return kNotSupported; }
