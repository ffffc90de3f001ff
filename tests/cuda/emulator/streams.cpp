// Streams, events and graphs: what is given to a stream runs when somebody waits for it.
#include <algorithm>
#include <deque>
#include <mutex>
#include <vector>

#include "device.h"

namespace emulated {
namespace {

struct Stream {
  Stream(int device, bool blocking) : device(device), blocking(blocking) {}
  int device;
  bool blocking;  // waits for the null stream, and that for it
  bool capturing = false;
  std::deque<Work> waiting;
  size_t given = 0, done = 0;
  std::vector<Work> captured;
};

struct Event {
  Stream* stream = nullptr;
  size_t position = 0;
};

using Graph = std::vector<Work>;

auto& mutex_ = *new std::recursive_mutex;  // never destroyed, see device.cpp
auto& streams_ = *new std::vector<Stream*>;
int capturing_ = 0;

// The null stream has the small numbers too: cudaStreamLegacy and cudaStreamPerThread.
Stream* find(void* stream) { return uintptr_t(stream) < 8 ? nullptr : static_cast<Stream*>(stream); }

Error run(Stream& stream, size_t until) {
  Error first = kSuccess;
  while (stream.done < until) {
    Work work = std::move(stream.waiting.front());
    stream.waiting.pop_front();
    stream.done++;
    Error error = work();
    if (!first) first = error;
  }
  return first;
}

Error run_blocking() {
  Error first = kSuccess;
  for (Stream* stream : streams_) {
    if (!stream->blocking) continue;
    Error error = run(*stream, stream->given);
    if (!first) first = error;
  }
  return first;
}

}  // namespace

void* new_stream(bool blocking) {
  std::lock_guard guard(mutex_);
  streams_.push_back(new Stream(current_device(), blocking));
  return streams_.back();
}

Error delete_stream(void* handle) {
  std::lock_guard guard(mutex_);
  Stream* stream = find(handle);
  if (!stream) return failed(kInvalidResourceHandle, "a stream");
  Error error = run(*stream, stream->given);
  streams_.erase(std::find(streams_.begin(), streams_.end(), stream));
  delete stream;
  return error;
}

Error submit(void* handle, Work work) {
  std::lock_guard guard(mutex_);
  if (Error error = touch()) return error;
  Stream* stream = find(handle);
  if (!stream) {
    if (capturing_) return failed(kStreamCaptureUnsupported, "the null stream");
    if (Error error = run_blocking()) return failed(error, "a stream");
    return failed(work(), "the null stream");
  }
  if (stream->device != current_device()) return failed(kInvalidResourceHandle, "a stream of another device");
  if (stream->capturing) {
    stream->captured.push_back(std::move(work));
  } else {
    stream->waiting.push_back(std::move(work));
    stream->given++;
  }
  return kSuccess;
}

Error synchronise(void* handle) {
  std::lock_guard guard(mutex_);
  if (Error error = touch()) return error;
  Stream* stream = find(handle);
  if (!stream) return failed(run_blocking(), "the null stream");
  if (stream->capturing) return failed(kStreamCaptureUnsupported, "waiting for a stream");
  return failed(run(*stream, stream->given), "a stream");
}

Error synchronise_device() {
  std::lock_guard guard(mutex_);
  if (capturing_) return failed(kStreamCaptureUnsupported, "waiting for the device");
  Error first = kSuccess;
  for (Stream* stream : streams_) {
    Error error = run(*stream, stream->given);
    if (!first) first = error;
  }
  return first;
}

Error begin_capture(void* handle) {
  std::lock_guard guard(mutex_);
  Stream* stream = find(handle);
  if (!stream || stream->capturing) return failed(kStreamCaptureUnsupported, "a capture");
  stream->capturing = true;
  stream->captured.clear();
  capturing_++;
  return kSuccess;
}

Error end_capture(void* handle, void** graph) {
  std::lock_guard guard(mutex_);
  Stream* stream = find(handle);
  if (!stream || !stream->capturing) return failed(kInvalidValue, "the end of a capture");
  stream->capturing = false;
  capturing_--;
  *graph = new Graph(std::move(stream->captured));
  return kSuccess;
}

bool is_capturing(void* handle) {
  std::lock_guard guard(mutex_);
  Stream* stream = find(handle);
  return stream && stream->capturing;
}

Error replay(void* graph, void* stream) {
  for (const Work& work : *static_cast<Graph*>(graph))
    if (Error error = submit(stream, work)) return error;
  return kSuccess;
}

void* copy_graph(void* graph) { return new Graph(*static_cast<Graph*>(graph)); }
void delete_graph(void* graph) { delete static_cast<Graph*>(graph); }

void* new_event() { return new Event; }
void delete_event(void* event) { delete static_cast<Event*>(event); }

Error record(void* handle, void* stream) {
  std::lock_guard guard(mutex_);
  Event& event = *static_cast<Event*>(handle);
  event.stream = find(stream);
  event.position = event.stream ? event.stream->given : 0;
  return kSuccess;
}

Error wait(void* handle) {
  std::lock_guard guard(mutex_);
  Event event = *static_cast<Event*>(handle);
  bool alive = std::find(streams_.begin(), streams_.end(), event.stream) != streams_.end();
  return alive ? failed(run(*event.stream, event.position), "a stream") : kSuccess;  // one that is gone has run
}

Error wait_in_stream(void* handle, void* stream) {
  Event event = *static_cast<Event*>(handle);
  return submit(stream, [event]() mutable { return wait(&event); });
}

}  // namespace emulated
