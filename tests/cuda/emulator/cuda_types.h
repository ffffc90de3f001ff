// The types of the CUDA 13 runtime API that cross its boundary, as far as the emulator needs them. Written out here so that
// a C++ compiler is all that the tests need: NVIDIA's headers come in several packages of some hundred MB.
#pragma once
#include <cstddef>
#include <cstdint>

#define API extern "C" __attribute__((visibility("default")))

// Codes of cudaError_t; those below 1,000 are the same in the driver's CUresult.
enum Error : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInvalidConfiguration = 9,
  kInsufficientDriver = 35,
  kInvalidDeviceFunction = 98,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidResourceHandle = 400,
  kIllegalAddress = 700,
  kHostMemoryAlreadyRegistered = 712,
  kHostMemoryNotRegistered = 713,
  kLaunchFailure = 719,
  kNotSupported = 801,
  kStreamCaptureUnsupported = 900,
};

enum CopyKind : int { kHostToHost = 0, kHostToDevice = 1, kDeviceToHost = 2, kDeviceToDevice = 3, kDefault = 4 };
enum MemoryType : int { kUnregistered = 0, kHost = 1, kDevice = 2 };
enum Attribute : int {
  kMaxThreadsPerBlock = 1,
  kMaxSharedMemoryPerBlock = 8,
  kWarpSize = 10,
  kMultiProcessorCount = 16,
  kComputeCapabilityMajor = 75,
  kMaxSharedMemoryPerBlockOptin = 97,
};

struct Dim3 {
  unsigned x, y, z;
};

struct PointerAttributes {
  int type, device;
  void *device_pointer, *host_pointer;
  long reserved[8];
};

struct FunctionAttributes {
  size_t shared_bytes, constant_bytes, local_bytes;
  int max_threads_per_block, registers;
  char others[112];
};

struct LaunchConfiguration {
  Dim3 grid, block;
  size_t shared_bytes;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};

// cudaDeviceProp; what lies between the fields that are set stays zero.
struct DeviceProperties {
  char name[256];
  char uuid[16], luid[8];
  unsigned luid_mask;
  size_t total_memory, shared_per_block;
  int registers_per_block, warp_size;
  size_t pitch;
  int max_threads_per_block, max_threads[3], max_grid[3];
  size_t constant_memory;
  int major, minor;
  size_t texture_alignment, texture_pitch_alignment;
  int multiprocessors, integrated, can_map_host_memory;
  int textures[39];
  size_t surface_alignment;
  int concurrent_kernels, ecc, pci_bus, pci_device, pci_domain, tcc, copy_engines, unified_addressing;
  int bus_width, l2_cache, persisting_l2, max_threads_per_multiprocessor;
  int priorities, global_l1, local_l1;
  size_t shared_per_multiprocessor;
  int registers_per_multiprocessor;
  int managed[8];
  int cooperative_launch;
  size_t shared_per_block_optin;
  char others[328];
};
static_assert(offsetof(DeviceProperties, major) == 360);
static_assert(offsetof(DeviceProperties, multiprocessors) == 384);
static_assert(sizeof(DeviceProperties) == 1008 && sizeof(FunctionAttributes) == 144);
static_assert(offsetof(DeviceProperties, shared_per_block_optin) == 672);
