// How many bytes of request messages are in memory.
//
// A call takes its bytes from the room before they arrive and gives them back when it has been answered. Large messages
// may take three quarters of the room, so that those who send them, whole or in halves, leave the small ones theirs.
#pragma once

#include <atomic>
#include <cstddef>

#include "call.h"

namespace wire {

class Room {
 public:
  explicit Room(std::size_t bytes) : bytes_(bytes), for_large_(bytes - bytes / 4) {}

  // Takes bytes for a call; false, and nothing is taken, if there are too few.
  bool take(Call& call, std::size_t bytes, bool large);

  // Gives back what a call holds of one kind.
  void give_back(Call& call, bool large);

  [[nodiscard]] std::size_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  const std::size_t bytes_;
  const std::size_t for_large_;
  std::atomic<std::size_t> used_{0};  // read by any thread, changed by the one that drives
  std::size_t used_large_ = 0;
};

}  // namespace wire
