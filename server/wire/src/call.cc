#include "call.h"

namespace wire {
namespace {

// Kept of a call's buffers for the next one: what a single image and its answer take.
constexpr std::size_t kKeptBody = 2048;
constexpr std::size_t kKeptReply = 512;
constexpr std::uint64_t kSlotMask = 0xFFFFFFFF;
constexpr std::uint64_t kGeneration = 1ULL << 32;

}  // namespace

void Call::reset() {
  connection = nullptr;
  phase = Phase::kHeaders;
  open = handed = ended = incomplete = waiting = false;
  method = nullptr;
  path.clear();
  authorization.clear();
  bearer.clear();
  problem_header.clear();
  metadata.clear();
  header_bytes = 0;
  timeout = kNever;
  encoding = Encoding::kIdentity;
  content = ContentType::kNotGrpc;
  is_post = unknown_encoding = bad_timeout = bad_binary = wants_object = false;
  prefix_bytes = expected = 0;
  body.clear(kKeptBody);
  compressed = false;
  began = arrived = 0;
  deadline = kNever;
  charged = charged_large = 0;
  inflater.reset();
  inflated.clear(0);
  wants_message = held_back = false;
  taken_off = 0;
  out.clear(kKeptReply);
  out_taken = 0;
  responding = finished = false;
  status = 0;
  status_message.clear();
  trailing.clear();
}

CallTable::CallTable() : chunks_(std::make_unique<std::array<std::atomic<Call*>, kChunks>>()) {
  for (auto& chunk : *chunks_) {
    chunk.store(nullptr, std::memory_order_relaxed);
  }
}

CallTable::~CallTable() {
  for (auto& chunk : *chunks_) {
    delete[] chunk.load(std::memory_order_relaxed);
  }
}

Call* CallTable::acquire() {
  if (free_.empty()) {
    if (made_ == kChunks) {
      return nullptr;
    }
    Call* chunk = new Call[kChunk];
    for (std::size_t place = kChunk; place-- > 0;) {
      // Numbers begin with generation 1, so that none of them is 0.
      chunk[place].number = kGeneration + made_ * kChunk + place;
      free_.push_back(&chunk[place]);
    }
    (*chunks_)[made_++].store(chunk, std::memory_order_release);
  }
  Call* call = free_.back();
  free_.pop_back();
  call->alive.store(call->number, std::memory_order_relaxed);
  return call;
}

void CallTable::release(Call* call) {
  call->alive.store(0, std::memory_order_relaxed);
  call->reset();
  call->number += kGeneration;
  free_.push_back(call);
}

Call* CallTable::at(std::uint64_t number) const {
  const std::uint64_t slot = number & kSlotMask;
  if (slot >= kChunk * kChunks) {
    return nullptr;
  }
  Call* chunk = (*chunks_)[slot / kChunk].load(std::memory_order_acquire);
  return chunk == nullptr ? nullptr : &chunk[slot % kChunk];
}

Call* CallTable::find(std::uint64_t number) const {
  Call* call = at(number);
  return call != nullptr && call->number == number && call->handed ? call : nullptr;
}

bool CallTable::alive(std::uint64_t number) const {
  const Call* call = at(number);
  return call != nullptr && number != 0 && call->alive.load(std::memory_order_relaxed) == number;
}

}  // namespace wire
