// libFuzzer on the bytes of a connection: `make fuzz-wire`.
//
// The first byte of an input says how it is sent: after a preface or as it is, in pieces of which size, and how what
// arrives is answered. A socket pair stands for the network, and the clock runs on so that nothing waits.
#include "connection.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

#include "replies.h"
#include "requests.h"

namespace {

constexpr std::string_view kPreface("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
constexpr std::size_t kPieces[] = {1, 7, 100, 65536};

wire::Limits limits() {
  return {.max_connections = 1,
          .max_streams = 8,
          .max_header_bytes = 2048,
          .room = 64 << 10,
          .room_of_one = 32 << 10,
          .unsent_of_one = 4096,
          .window = 1024,
          .max_waiting = 4,
          .handshake_seconds = 10,
          .message_seconds = 30,
          .pressed_seconds = 5,
          .newcomer_seconds = 1,
          .stalled_seconds = 20,
          .idle_seconds = 50,
          .age_seconds = 100,
          .grace_seconds = 10,
          .keepalive_seconds = 40,
          .keepalive_timeout = 20,
          .pings_per_minute = 50,
          .resets_per_minute = 50,
          .empty_frames_per_minute = 50};
}

std::vector<wire::Method> methods() {
  using Kind = wire::Method::Kind;
  return {{"/h", Kind::kHot, 16 << 10, false, 0},
          {"/c", Kind::kControl, 512, true, 1},
          {"/s", Kind::kStream, 512, false, 2}};
}

// Answers what has arrived, in one of several ways.
void answer(wire::State& state, unsigned way) {
  const auto find = [&state](std::uint64_t number) { return state.calls.find(number); };
  wire::Arrived arrived = state.inbox.take();
  std::vector<std::uint64_t> numbers;
  for (const auto& item : arrived.items) {
    if (const auto* const call = std::get_if<wire::HandedCall>(&item)) {
      numbers.push_back(call->number);
    } else {
      const auto& rows = std::get<wire::Column>(item).numbers;
      numbers.insert(numbers.end(), rows.begin(), rows.end());
    }
  }
  for (const std::uint64_t number : numbers) {
    if (wire::Call* call = find(number)) {
      if (way % 2 == 0) {
        wire::replies::send(state, *call, "reply");
      } else {
        wire::replies::finish(state, *call, 3, "no \xff%", {{"a-bin", "\0\1"}});
      }
    }
  }
  for (const wire::Event& event : state.inbox.take_events(0)) {
    wire::Call* call = find(event.call.number);
    if (call == nullptr) {
      continue;
    }
    const bool more = event.kind == wire::Event::Kind::kCall || event.kind == wire::Event::Kind::kMessage;
    if (more && call->open && event.call.method == 2 && way % 4 != 3) {
      wire::replies::write(state, *call, std::string_view(event.call.payload.data(), event.call.payload.size()));
      wire::requests::ask(state, *call);
    } else {
      wire::replies::write(state, *call, "last");
      wire::replies::finish(state, *call, 0, "", {});
    }
  }
}

void drain(int descriptor) {
  char bytes[65536];
  while (read(descriptor, bytes, sizeof bytes) > 0) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const unsigned way = data[0];
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) {
    return 0;
  }
  static wire::State state(limits(), methods());  // making its table of calls would take most of the time
  state.plain = {std::make_shared<const wire::PlainFormat>(wire::PlainFormat{0, "ab", 4})};
  state.telling = {"x"};
  state.pressed_until = 0;
  double time = wire::now();
  wire::Buffer writing;
  std::vector<char> reading(4096);
  {
    wire::Connection connection(pair[0], state, time);
    const auto round = [&] {
      connection.read(reading.data(), reading.size());
      wire::requests::inflate_some(state, 256 << 10);
      answer(state, way >> 4);
      while (!state.dirty.empty() && connection.stage != wire::Connection::Stage::kClosed) {
        state.dirty.clear();
        connection.flush(writing);
      }
      if ((way & 8) == 0) {
        drain(pair[1]);
      }
    };
    std::string_view left = input;
    if ((way & 1) == 0) {
      [[maybe_unused]] const ssize_t sent = write(pair[1], kPreface.data(), kPreface.size());
      round();
    }
    while (!left.empty() && connection.stage != wire::Connection::Stage::kClosed) {
      const std::size_t piece = std::min(left.size(), kPieces[(way >> 1) & 3]);
      const ssize_t sent = write(pair[1], left.data(), piece);
      if (sent <= 0) {
        break;
      }
      left.remove_prefix(static_cast<std::size_t>(sent));
      round();
    }
    for (int step = 0; step < 6 && connection.stage != wire::Connection::Stage::kClosed; ++step) {
      time += 25;
      wire::requests::sweep(state, time);
      connection.look_after(time);
      round();
    }
    connection.close();
    state.closed.clear();
    state.dirty.clear();
  }
  answer(state, way >> 4);
  close(pair[1]);
  // Whatever happened, nothing of the room is left.
  if (state.room.used() != 0 || state.incomplete.front() != nullptr || !state.waiting.empty() ||
      !state.inflating.empty()) {
    __builtin_trap();
  }
  return 0;
}
