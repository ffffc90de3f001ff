#include "requests.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "connection.h"
#include "replies.h"
#include "status.h"

namespace wire::requests {
namespace {

constexpr std::size_t kPrefix = 5;        // a flag and the length
constexpr std::size_t kCallBytes = 2048;  // of the room, for what a call takes beside its message
constexpr std::size_t kInflaterBytes = 48 << 10;
constexpr std::size_t kInflateStep = 64 << 10;
constexpr std::size_t kMostUnread = 1 << 20;  // of a stream's replies; beyond it its next message waits
constexpr std::size_t kMostEchoed = 200;      // bytes of a caller's text in a status
constexpr double kPressedSeconds = 1;         // that want of room is remembered

std::string_view shown(std::string_view text) {
  return text.substr(0, kMostEchoed);
}

void note_encoding(Call& call, std::string_view value) {
  if (value == "gzip") {
    call.encoding = Encoding::kGzip;
  } else if (value == "deflate") {
    call.encoding = Encoding::kDeflate;
  } else if (value != "identity") {
    call.unknown_encoding = true;
    call.problem_header = shown(value);
  }
}

void note_binary(Call& call, std::string_view name, std::string_view value) {
  for (std::size_t start = 0; start <= value.size();) {
    const std::size_t comma = std::min(value.find(',', start), value.size());
    if (std::optional<std::string> bytes = base64_decode(value.substr(start, comma - start))) {
      call.metadata.emplace_back(name, std::move(*bytes));
    } else {
      call.bad_binary = true;
      call.problem_header = shown(name);
    }
    start = comma + 1;
  }
}

void note_metadata(State& state, Call& call, std::string_view name, std::string_view value) {
  const bool tells = std::find(state.telling.begin(), state.telling.end(), name) != state.telling.end();
  if (call.method == nullptr || (call.method->kind == Method::Kind::kHot && !tells)) {
    return;
  }
  call.wants_object = call.wants_object || tells;
  if (name.ends_with("-bin")) {
    note_binary(call, name, value);
  } else {
    call.metadata.emplace_back(name, value);
  }
}

void refuse_no_room(State& state, Call& call) {
  count(state.counters.unread);
  state.pressed_until = now() + kPressedSeconds;
  replies::refuse(state, call, kResourceExhausted, state.no_room, state.no_room_trailing);
}

void leave_incomplete(State& state, Call& call) {
  if (call.incomplete) {
    call.incomplete = false;
    state.incomplete.erase(&call);
    if (call.charged_large != 0) {
      --call.connection->arriving;
    }
  }
  if (call.waiting) {
    call.waiting = false;
    state.waiting.erase(std::find(state.waiting.begin(), state.waiting.end(), &call));
  }
}

// Lets large messages in, as far as there is room: first those of the connection that has least.
void let_in(State& state) {
  while (!state.waiting.empty()) {
    Call* next = nullptr;
    for (Call* call : state.waiting) {
      const Connection& connection = *call->connection;
      const bool may =
          connection.session != nullptr &&  // it is not being closed
          (connection.large_bytes == 0 || connection.large_bytes + call->expected <= state.limits.room_of_one);
      if (may && (next == nullptr || connection.large_bytes < next->connection->large_bytes)) {
        next = call;
      }
    }
    if (next == nullptr || !state.room.take(*next, next->expected, true)) {
      return;
    }
    next->waiting = false;
    state.waiting.erase(std::find(state.waiting.begin(), state.waiting.end(), next));
    Connection& connection = *next->connection;
    connection.large_bytes += next->expected;
    ++connection.arriving;
    next->began = now();
    next->body.reserve(next->expected);
    nghttp2_session_set_local_window_size(connection.session.get(), NGHTTP2_FLAG_NONE, next->stream,
                                          static_cast<std::int32_t>(next->expected + kPrefix));
    connection.mark();
  }
}

void give_back(State& state, Call& call) {
  state.room.give_back(call, false);
  if (call.charged_large != 0) {
    if (call.connection != nullptr) {
      call.connection->large_bytes -= call.charged_large;
    }
    state.room.give_back(call, true);
    let_in(state);
  }
}

void release(State& state, Call& call) {
  give_back(state, call);
  if (call.connection != nullptr) {
    call.connection->calls.erase(&call);
  }
  state.calls.release(&call);
}

// Room for the whole message, whose length is known now. False: the call has been refused.
bool claim(State& state, Call& call) {
  if (call.expected > call.method->max_message) {
    count(state.counters.too_large);
    replies::refuse(state, call, kResourceExhausted,
                    "the message has " + std::to_string(call.expected) + " bytes; this server takes at most " +
                        std::to_string(call.method->max_message) + ". Send less at a time");
    return false;
  }
  if (call.expected + kPrefix <= state.limits.window) {
    if (state.room.take(call, call.expected, false)) {
      call.body.reserve(call.expected);
      return true;
    }
  } else if (state.waiting.size() < state.limits.max_waiting && state.room.take(call, state.limits.window, false)) {
    call.waiting = true;
    state.waiting.push_back(&call);
    let_in(state);
    return true;
  }
  refuse_no_room(state, call);
  return false;
}

// Python has a call, and is told that it need not answer.
void notify_gone(State& state, const Call& call) {
  if (call.method->kind == Method::Kind::kHot) {
    state.inbox.add_gone(call.number);
  } else {
    state.inbox.add_event({Event::Kind::kGone, {call.number, 0, call.method->index, {}, {}, 0, 0, ""}});
  }
}

void leave_inflating(State& state, Call& call) {
  if (call.phase == Phase::kInflating) {
    std::erase(state.inflating, &call);
  }
}

HandedCall as_object(Call& call) {
  HandedCall object{call.number,  call.connection->number, call.method->index,    {}, std::move(call.metadata),
                    call.arrived, call.deadline,           std::move(call.bearer)};
  object.payload.swap(call.body);
  return object;
}

// The message is whole: it is Python's from now on.
void hand_over(State& state, Call& call) {
  call.phase = Phase::kHanded;
  call.handed = true;
  if (call.method->kind == Method::Kind::kControl) {
    state.inbox.add_event({Event::Kind::kCall, as_object(call)});
    return;
  }
  if (!call.wants_object) {
    for (const auto& format : state.plain) {
      if (format->method == call.method->index && call.body.size() == format->prefix.size() + format->pixels &&
          call.body.view().starts_with(format->prefix)) {
        state.inbox.add_row(format, call);
        return;
      }
    }
  }
  state.inbox.add_call(as_object(call));
}

// A stream's message that may not fit into the window arrives: it takes room once, as a whole, and flow control lets
// more of it come.
void take_in(State& state, Call& call, std::size_t size) {
  Connection& connection = *call.connection;
  if (call.charged_large == 0) {
    const bool may = connection.large_bytes == 0 || connection.large_bytes + size <= state.limits.room_of_one;
    if (!may || !state.room.take(call, size, true)) {
      refuse_no_room(state, call);
      return;
    }
    connection.large_bytes += size;
    ++connection.arriving;
    call.began = now();
    call.incomplete = true;
    state.incomplete.push_back(&call);
    call.body.reserve(kPrefix + size);
  }
  nghttp2_session_consume_stream(connection.session.get(), call.stream, call.body.size() - call.taken_off);
  call.taken_off = call.body.size();
  connection.mark();
}

void leave_taking_in(State& state, Call& call) {
  leave_incomplete(state, call);
  call.taken_off = 0;
  if (call.charged_large != 0) {
    call.connection->large_bytes -= call.charged_large;
    state.room.give_back(call, true);
    let_in(state);
  }
}

void hand_next_message(State& state, Call& call) {
  if (!call.wants_message || call.phase != Phase::kStreaming) {
    return;
  }
  if (call.out.size() - call.out_taken > kMostUnread) {
    if (!call.held_back) {
      call.held_back = true;
      state.held_back.push_back(call.number);
    }
    return;
  }
  const std::string_view bytes = call.body.view();
  std::size_t size = 0;
  if (bytes.size() >= kPrefix) {
    for (std::size_t place = 1; place < kPrefix; ++place) {
      size = size << 8 | static_cast<unsigned char>(bytes[place]);
    }
    if (size > call.method->max_message) {
      count(state.counters.too_large);
      replies::refuse(state, call, kResourceExhausted,
                      "the message has " + std::to_string(size) + " bytes; this server takes at most " +
                          std::to_string(call.method->max_message));
      return;
    }
  }
  if (bytes.size() < kPrefix || bytes.size() < kPrefix + size) {
    if (call.ended && !bytes.empty()) {
      replies::refuse(state, call, kInternal, "the stream ended within a message");
    } else if (call.ended) {
      call.wants_message = false;
      state.inbox.add_event({Event::Kind::kEnd, {call.number, 0, call.method->index, {}, {}, 0, 0, ""}});
    } else if (bytes.size() >= kPrefix && kPrefix + size > state.limits.window / 2) {  // nghttp2 may owe the other half
      take_in(state, call, size);
    }
    return;
  }
  const char flag = bytes[0];
  Buffer message;
  if (flag == 0) {
    message.append(bytes.substr(kPrefix, size));
  } else if (flag != 1 || call.encoding == Encoding::kIdentity) {
    replies::refuse(state, call, kInternal, "the message's compression flag does not go with its grpc-encoding");
    return;
  } else {
    Inflater inflater(call.encoding);
    const Inflater::Result result = inflater.step(bytes.substr(kPrefix, size), message, call.method->max_message + 1);
    if (result == Inflater::Result::kMore || message.size() > call.method->max_message) {
      replies::refuse(state, call, kResourceExhausted, "the decompressed message is too large");
      return;
    }
    if (result == Inflater::Result::kCorrupt) {
      replies::refuse(state, call, kInternal, "the message cannot be decompressed");
      return;
    }
  }
  call.body.consume(kPrefix + size);
  nghttp2_session_consume_stream(call.connection->session.get(), call.stream, kPrefix + size - call.taken_off);
  call.connection->mark();
  leave_taking_in(state, call);
  call.wants_message = false;
  state.inbox.add_event(
      {Event::Kind::kMessage, {call.number, 0, call.method->index, std::move(message), {}, 0, 0, ""}});
}

// One step of a call's decompression; true: it needs another.
bool inflate_step(State& state, Call& call) {
  if (!call.inflater) {
    if (!state.room.take(call, kInflaterBytes, false)) {
      refuse_no_room(state, call);
      return false;
    }
    call.inflater = std::make_unique<Inflater>(call.encoding);
  }
  const bool large = call.inflated.size() + kInflateStep > state.limits.window;
  if (!state.room.take(call, kInflateStep, large)) {
    refuse_no_room(state, call);
    return false;
  }
  if (large) {
    call.connection->large_bytes += kInflateStep;
  }
  const Inflater::Result result = call.inflater->step(call.body.view(), call.inflated, kInflateStep);
  if (call.inflated.size() > call.method->max_message) {
    count(state.counters.too_large);
    replies::refuse(state, call, kResourceExhausted,
                    "the decompressed message is larger than " + std::to_string(call.method->max_message) +
                        " bytes, the most that this server takes. Send less at a time");
  } else if (result == Inflater::Result::kMore) {
    return true;
  } else if (result == Inflater::Result::kCorrupt) {
    count(state.counters.refused);
    replies::refuse(state, call, kInternal, "the message cannot be decompressed");
  } else {
    call.body.swap(call.inflated);
    call.inflated.clear(0);
    call.inflater.reset();
    hand_over(state, call);
  }
  return false;
}

// What is wrong with a call's headers: answers it and returns true.
bool refuse_headers(State& state, Call& call) {
  const auto refuse = [&state, &call](int status, const std::string& message, Metadata trailing = {}) {
    count(state.counters.refused);
    replies::refuse(state, call, status, message, std::move(trailing));
    return true;
  };
  if (call.header_bytes > state.limits.max_header_bytes) {
    return refuse(kResourceExhausted,
                  "the call's metadata is larger than " + std::to_string(state.limits.max_header_bytes) + " bytes");
  }
  if (!call.is_post || call.content == ContentType::kNotGrpc) {
    count(state.counters.refused);
    replies::refuse_http(state, call, call.is_post ? "415" : "405");
    return true;
  }
  const bool open = call.method != nullptr && call.method->open;
  std::optional<std::string> bearer;
  if (state.tokens && !open) {
    bearer = state.tokens->find(call.authorization);
  }
  if (state.tokens && !open && !bearer) {
    count(state.counters.unauthenticated);
    replies::refuse(state, call, kUnauthenticated,
                    "this server wants a bearer token that it knows: send the metadata 'authorization: Bearer TOKEN'");
    return true;
  }
  call.bearer = bearer.value_or("");
  if (call.method == nullptr) {
    return refuse(kUnimplemented, "there is no method " + call.path);
  }
  if (call.content == ContentType::kOtherFormat) {
    return refuse(kUnimplemented, "messages are protobuf here: send the content-type application/grpc");
  }
  if (call.unknown_encoding) {
    return refuse(kUnimplemented, "the grpc-encoding " + call.problem_header + " is not known here",
                  {{"grpc-accept-encoding", "identity,deflate,gzip"}});
  }
  if (call.bad_timeout) {
    return refuse(kInternal, "the grpc-timeout " + call.problem_header +
                                 " is malformed: expected at most 8 digits and one of H, M, S, m, u and n");
  }
  if (call.bad_binary) {
    return refuse(kInternal, "the metadata " + call.problem_header + " is not base64");
  }
  return false;
}

std::string too_slow(double seconds) {
  return "the message did not arrive within " + std::to_string(static_cast<long>(seconds)) + " s; send less at a time";
}

}  // namespace

void on_header(State& state, Call& call, std::string_view name, std::string_view value) {
  constexpr std::size_t kOverhead = 32;  // of a header, as HTTP/2 counts
  call.header_bytes += name.size() + value.size() + kOverhead;
  if (call.phase != Phase::kHeaders || call.header_bytes > state.limits.max_header_bytes) {
    return;  // trailers, which mean nothing, or too much
  }
  if (name == ":path") {
    const auto found = state.by_path.find(value);
    if (found != state.by_path.end()) {
      call.method = found->second;
    } else {
      call.path = shown(value);
    }
  } else if (name == ":method") {
    call.is_post = value == "POST";
  } else if (name == "content-type") {
    call.content = content_type(value);
  } else if (name == "grpc-timeout") {
    if (const std::optional<double> timeout = parse_timeout(value)) {
      call.timeout = *timeout;
    } else {
      call.bad_timeout = true;
      call.problem_header = shown(value);
    }
  } else if (name == "grpc-encoding") {
    note_encoding(call, value);
  } else if (name == "authorization") {
    if (state.tokens) {
      call.authorization = value;
    }
  } else if (name.front() != ':' && name != "te" && name != "user-agent" && name != "grpc-accept-encoding" &&
             name != "accept-encoding" && name != "content-length" && name != "grpc-message-type") {
    note_metadata(state, call, name, value);
  }
}

void on_headers(State& state, Call& call) {
  count(state.counters.calls);
  call.began = now();
  call.deadline = call.connection->link.received() + call.timeout;
  call.phase = Phase::kBody;
  if (refuse_headers(state, call)) {
    return;
  }
  call.authorization.clear();
  if (call.connection->unsent_replies > state.limits.unsent_of_one) {
    refuse_no_room(state, call);  // its caller does not read the replies to earlier ones
    return;
  }
  const bool streams = call.method->kind == Method::Kind::kStream;
  // A stream's messages count as if it had always sent all that it may.
  if (!state.room.take(call, kCallBytes + call.header_bytes + (streams ? state.limits.window : 0), false)) {
    refuse_no_room(state, call);
  } else if (streams) {
    call.phase = Phase::kStreaming;
    call.handed = true;
    call.arrived = call.began;
    state.inbox.add_event({Event::Kind::kCall, as_object(call)});
  } else {
    call.incomplete = true;
    state.incomplete.push_back(&call);
  }
}

void on_data(State& state, Call& call, std::string_view data) {
  if (call.phase == Phase::kStreaming) {
    call.body.append(data);
    hand_next_message(state, call);
    return;
  }
  if (call.phase != Phase::kBody) {
    return;
  }
  if (call.prefix_bytes < kPrefix) {
    const std::size_t taken = std::min(kPrefix - call.prefix_bytes, data.size());
    std::copy_n(data.begin(), taken, call.prefix.begin() + call.prefix_bytes);
    call.prefix_bytes += taken;
    data.remove_prefix(taken);
    if (call.prefix_bytes < kPrefix) {
      return;
    }
    call.compressed = call.prefix[0] == 1;
    if (call.prefix[0] > 1 || (call.compressed && call.encoding == Encoding::kIdentity)) {
      count(state.counters.refused);
      replies::refuse(state, call, kInternal, "the message's compression flag does not go with its grpc-encoding");
      return;
    }
    call.expected = 0;
    for (std::size_t place = 1; place < kPrefix; ++place) {
      call.expected = call.expected << 8 | call.prefix[place];
    }
    if (!claim(state, call)) {
      return;
    }
  }
  if (data.size() > call.expected - call.body.size()) {
    count(state.counters.refused);
    replies::refuse(state, call, kUnimplemented, "the method takes one message, and more than that was sent");
    return;
  }
  call.body.append(data);
}

void on_end(State& state, Call& call) {
  if (call.phase == Phase::kStreaming) {
    hand_next_message(state, call);
    return;
  }
  if (call.phase != Phase::kBody) {
    return;
  }
  if (call.prefix_bytes < kPrefix || call.body.size() < call.expected) {
    count(state.counters.refused);
    if (call.prefix_bytes == 0) {
      replies::refuse(state, call, kUnimplemented, "the method takes one message, and none was sent");
    } else {
      replies::refuse(state, call, kInternal, "the stream ended within the message");
    }
    return;
  }
  leave_incomplete(state, call);
  call.arrived = call.connection->message_arrived(kPrefix + call.body.size());
  if (call.compressed) {
    call.phase = Phase::kInflating;
    state.inflating.push_back(&call);
  } else {
    hand_over(state, call);
  }
}

void on_close(State& state, Call& call) {
  call.open = false;
  call.alive.store(0, std::memory_order_relaxed);
  leave_incomplete(state, call);
  leave_inflating(state, call);
  call.connection->unsent_replies -= call.out.size() - call.out_taken;
  if (call.phase != Phase::kAnswered) {
    count(state.counters.cancelled);
  }
  if (!call.handed) {
    release(state, call);
    return;
  }
  ++call.connection->owed;
  if (call.phase != Phase::kAnswered) {
    notify_gone(state, call);
  }
}

void let_go(State& state, Call& call) {
  call.handed = false;
  call.alive.store(0, std::memory_order_relaxed);
  if (call.open) {
    give_back(state, call);
    return;
  }
  if (call.connection != nullptr) {
    --call.connection->owed;
  }
  release(state, call);
}

void leave(State& state, Call& call) {
  leave_incomplete(state, call);
  leave_inflating(state, call);
  call.body.clear(0);
  call.inflated.clear(0);
  call.inflater.reset();
  if (call.handed) {
    call.alive.store(0, std::memory_order_relaxed);
    notify_gone(state, call);
  } else {
    give_back(state, call);
  }
}

void ask(State& state, Call& call) {
  call.wants_message = true;
  hand_next_message(state, call);
}

void resume(State& state) {
  for (const std::uint64_t number : std::exchange(state.held_back, {})) {
    if (Call* call = state.calls.find(number); call != nullptr && call->open) {
      call->held_back = false;
      hand_next_message(state, *call);
    }
  }
}

void inflate_some(State& state, std::size_t most) {
  for (std::size_t spent = 0; spent < most && !state.inflating.empty(); spent += kInflateStep) {
    Call* call = state.inflating.front();
    state.inflating.pop_front();
    if (inflate_step(state, *call)) {
      state.inflating.push_back(call);
    }
  }
}

void sweep(State& state, double time) {
  const Limits& limits = state.limits;
  const bool pressed = !state.waiting.empty() || time < state.pressed_until;
  auto newcomers = std::count_if(state.waiting.begin(), state.waiting.end(),
                                 [](const Call* call) { return call->connection->arriving == 0; });
  const double most = pressed ? limits.pressed_seconds : limits.message_seconds;
  for (Call* call = state.incomplete.front(); call != nullptr;) {
    Call* const next = state.incomplete.next(call);
    const double age = time - call->began;
    const bool crowds = call->charged_large != 0 && call->connection->arriving > 1;
    if (call->waiting && age > limits.message_seconds) {
      refuse_no_room(state, *call);
    } else if (!call->waiting && newcomers > 0 && crowds && age > limits.newcomer_seconds) {
      --newcomers;
      count(state.counters.slow);
      replies::refuse(state, *call, kDeadlineExceeded, too_slow(limits.newcomer_seconds));
    } else if ((!call->waiting && age > most) || call->deadline < time) {
      count(state.counters.slow);
      replies::refuse(state, *call, kDeadlineExceeded,
                      call->deadline < time ? "the deadline passed before the message had arrived" : too_slow(most));
    }
    call = next;
  }
}

}  // namespace wire::requests
