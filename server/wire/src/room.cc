#include "room.h"

namespace wire {

bool Room::take(Call& call, std::size_t bytes, bool large) {
  const std::size_t used = used_.load(std::memory_order_relaxed);
  if (bytes > bytes_ - used || (large && bytes > for_large_ - used_large_)) {
    return false;
  }
  used_.store(used + bytes, std::memory_order_relaxed);
  (large ? call.charged_large : call.charged) += bytes;
  if (large) {
    used_large_ += bytes;
  }
  return true;
}

void Room::give_back(Call& call, bool large) {
  std::size_t& held = large ? call.charged_large : call.charged;
  used_.store(used_.load(std::memory_order_relaxed) - held, std::memory_order_relaxed);
  if (large) {
    used_large_ -= held;
  }
  held = 0;
}

}  // namespace wire
