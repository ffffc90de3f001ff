// The clock that Python calls time.monotonic().
#pragma once

#include <ctime>
#include <limits>

namespace wire {

inline double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

inline constexpr double kNever = std::numeric_limits<double>::infinity();

}  // namespace wire
