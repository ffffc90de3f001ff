// The emulated GPUs, which the driver's library owns and the other libraries use: devices, memory, streams and events.
//
// Work that is given to a stream runs late: when the host waits for it, and not before. So a Run whose caller forgets to
// wait gives wrong answers here, every time. What runs on a device may touch device memory only, which is checked.
#pragma once
#include <functional>
#include <string>

#include "cuda_types.h"

namespace emulated {

using Work = std::function<Error()>;

// The device of the calling thread.
int& current_device();
int device_count();
int driver_version();
size_t memory_total();
size_t memory_used(int device);
std::string bus_id(int device);

// What every function of the runtime begins with: the error that the devices are in, such as a launch that failed before.
Error touch();
// Remember an error of the calling thread, as cudaGetLastError reports it.
Error failed(Error error, const char* where);
Error& last_error();
const char* error_text(int error);

Error allocate(void** pointer, size_t bytes);
Error release(void* pointer);
Error pin(void* pointer, size_t bytes);
Error unpin(void* pointer);
bool is_pinned(const void* pointer);
// The device whose memory holds all of it; -1 when it is the host's or not all of it is there.
int owner(const void* pointer, size_t bytes);
// Whether what runs on a device may use it; the device is broken from then on if not.
bool on_device(const void* pointer, size_t bytes);

void* new_stream(bool blocking);
Error delete_stream(void* stream);
// Give work to a stream; the null stream runs it at once, after what the blocking streams have.
Error submit(void* stream, Work work);
Error synchronise(void* stream);
Error synchronise_device();

Error begin_capture(void* stream);
Error end_capture(void* stream, void** graph);
bool is_capturing(void* stream);
Error replay(void* graph, void* stream);
void* copy_graph(void* graph);
void delete_graph(void* graph);

void* new_event();
void delete_event(void* event);
Error record(void* event, void* stream);
Error wait(void* event);
Error wait_in_stream(void* event, void* stream);

// A line for the file that EMULATED_CUDA_LOG names.
void log(const std::string& line);

}  // namespace emulated
