// What callers may take. The defaults and their reasons are in mlpserve_wire/limits.py, which fills every field.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wire {

struct Limits {
  std::size_t max_connections;
  std::size_t max_streams;       // on one connection
  std::size_t max_header_bytes;  // of one call, as HTTP/2 counts them
  std::size_t room;              // bytes of request messages in memory, until their calls are answered
  std::size_t room_of_one;       // the same of one connection's large messages
  std::size_t unsent_of_one;     // bytes of replies that one connection has not read
  std::size_t window;            // bytes of a message that may arrive before there is room for the whole of it
  std::size_t max_waiting;       // large messages that wait for room
  double handshake_seconds;      // from accepting to HTTP/2's first frame
  double message_seconds;        // for a message to arrive
  double pressed_seconds;        // the same while others wait for its room
  double newcomer_seconds;       // the same while a connection waits that has nothing under way, and this one has more
  double stalled_seconds;        // a connection whose caller reads none of what waits for it
  double idle_seconds;           // a connection without calls; 0: for ever
  double age_seconds;            // a connection; 0: for ever
  double grace_seconds;          // for the calls of a connection that has become too old
  double keepalive_seconds;      // of silence before a caller is asked whether it is there; 0: never
  double keepalive_timeout;      // for its answer
  double pings_per_minute;       // without a call between them
  double resets_per_minute;      // more than calls that were answered
  double empty_frames_per_minute;  // DATA without data, SETTINGS, PRIORITY and unknown frames
};

}  // namespace wire
