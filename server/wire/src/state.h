// What all connections share. It belongs to whoever drives the reactor, but for what says otherwise.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "call.h"
#include "inbox.h"
#include "room.h"
#include "tls.h"
#include "tokens.h"
#include "wire_limits.h"

namespace wire {

// Counts of what has happened; read by any thread.
struct Counters {
  std::atomic<std::uint64_t> connections{0};          // open now
  std::atomic<std::uint64_t> accepted{0};             // connections
  std::atomic<std::uint64_t> refused_connections{0};  // there were too many
  std::atomic<std::uint64_t> failed_handshakes{0};    // of TLS, in time or not, and callers that speak no HTTP/2
  std::atomic<std::uint64_t> calls{0};                // whose headers have arrived
  std::atomic<std::uint64_t> cancelled{0};            // by their callers, before the answer
  std::atomic<std::uint64_t> unauthenticated{0};
  std::atomic<std::uint64_t> too_large{0};  // messages
  std::atomic<std::uint64_t> slow{0};       // messages that did not arrive in time
  std::atomic<std::uint64_t> unread{0};     // messages for which there was no room
  std::atomic<std::uint64_t> refused{0};    // calls for other reasons, before Python sees them
  std::atomic<std::uint64_t> floods{0};     // connections ended for too many frames of a kind
  std::atomic<std::uint64_t> stalled{0};    // connections ended because nothing was read, or nobody was there
};

struct State {
  State(const Limits& given, std::vector<Method> known);

  const Limits limits;
  const std::vector<Method> methods;
  std::unordered_map<std::string_view, const Method*> by_path;
  Room room;
  CallTable calls;
  Inbox inbox;
  Counters counters;

  std::uint64_t connections_made = 0;
  TlsContext tls;
  std::shared_ptr<const Tokens> tokens;  // null: callers need none
  std::vector<std::shared_ptr<const PlainFormat>> plain;
  std::vector<std::string> telling;  // names of headers that make a call an object, and that Python sees

  CallList<&Call::of_incomplete> incomplete;  // calls whose message is arriving, oldest first
  std::vector<Call*> waiting;                 // of them, large ones that wait for room, oldest first
  std::deque<Call*> inflating;
  std::vector<std::uint64_t> held_back;  // numbers of streams whose replies are not read
  std::vector<Connection*> dirty;        // with something to be written
  std::vector<Connection*> closed;       // to be deleted at the end of the round
  std::string no_room = "the server holds as many messages as it has room for; try again in a moment";
  Metadata no_room_trailing;  // of calls that are refused with it
  double pressed_until = 0;   // a message was refused for want of room a moment ago

  std::atomic<double> written{0};  // when a socket was last given bytes; read by any thread
};

inline void count(std::atomic<std::uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace wire
