#include "connection.h"

#include <sys/epoll.h>

#include <algorithm>
#include <string_view>

#include "requests.h"
#include "session.h"

namespace wire {
namespace {

constexpr std::size_t kShares = 4;  // of the scratch space, that one connection may fill in a round
constexpr std::size_t kWriteChunk = 64 << 10;
constexpr std::size_t kMostUnsent = 1 << 20;   // bytes that the socket does not take, before nothing more is read
constexpr std::size_t kMostBlock = 256 << 10;  // bytes without the beginning of a frame
constexpr std::size_t kGreeting = 24;          // bytes of HTTP/2's preface
constexpr double kNoticeSeconds = 0.25;        // between the notice that a connection ends and its last call
constexpr double kSilentSeconds = 1;           // after which a connection gives way to others
constexpr double kIdleSeconds = 5;             // the same of one that has begun, without calls or answers
constexpr double kLingerSeconds = 1;           // for the caller to read the last bytes
constexpr std::string_view kPreface = "PRI";
constexpr std::string_view kNotHttp2 =
    "HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    "This port speaks gRPC over HTTP/2 and nothing else.\n";

}  // namespace

State::State(const Limits& given, std::vector<Method> known)
    : limits(given), methods(std::move(known)), room(given.room) {
  for (const Method& method : methods) {
    by_path.emplace(method.path, &method);
  }
}

bool Bucket::take(double now) {
  constexpr double kMinute = 60;
  left_ = std::min(most_, left_ + (now - filled_) * most_ / kMinute);
  filled_ = now;
  if (left_ < 1) {
    return false;
  }
  left_ -= 1;
  return true;
}

Connection::Connection(int descriptor, State& shared, double now)
    : state(shared),
      number(++shared.connections_made),
      link(descriptor, shared.tls),
      last_call(now),
      last_taken(now),
      pings(shared.limits.pings_per_minute, now),
      resets(shared.limits.resets_per_minute, now),
      empty_frames(shared.limits.empty_frames_per_minute, now),
      last_written_(now),
      opened_(now),
      last_read_(now) {
  state.counters.connections.fetch_add(1, std::memory_order_relaxed);
  count(state.counters.accepted);
}

Connection::~Connection() {
  state.counters.connections.fetch_sub(1, std::memory_order_relaxed);
}

std::optional<double> Connection::gives_way(double now) const {
  // In this order: connections that are over, those whose calls never were answered, and the others.
  switch (stage) {
    case Stage::kClosed:
      return std::nullopt;
    case Stage::kLingering:
      return -1;
    case Stage::kHandshake:
    case Stage::kPreface:
      return now - opened_ > kSilentSeconds ? std::optional(0.0) : std::nullopt;
    case Stage::kOpen:
      if (!calls.empty() || now - std::max(last_answered, opened_) < kIdleSeconds) {
        return std::nullopt;
      }
      return last_answered;
  }
  return std::nullopt;
}

void Connection::make_way(bool at_once) {
  if (stage == Stage::kOpen && !at_once) {
    terminate(NGHTTP2_NO_ERROR);
  } else {
    close();
  }
}

void Connection::mark() {
  if (!dirty && stage != Stage::kClosed) {
    dirty = true;
    state.dirty.push_back(this);
  }
}

bool Connection::shake_hands() {
  switch (link.handshake()) {
    case Link::Result::kWouldBlock:
      return false;
    case Link::Result::kClosed:
      count(state.counters.failed_handshakes);
      close();
      return false;
    case Link::Result::kOk:
      stage = Stage::kPreface;
      session = make_session(*this);
      mark();
  }
  return true;
}

void Connection::read(char* scratch, std::size_t size) {
  read_again = false;
  if (stage == Stage::kHandshake && !shake_hands()) {
    return;
  }
  std::size_t left = kShares * size;
  while (stage != Stage::kClosed) {
    std::size_t got = 0;
    const Link::Result result = link.read(scratch, size, got);
    if (result == Link::Result::kWouldBlock) {
      break;
    }
    if (result == Link::Result::kClosed) {
      close();
      return;
    }
    last_read_ = now();
    ping_sent_ = 0;
    if (stage != Stage::kLingering) {
      feed({scratch, got});
    }
    if (!link.encrypted() && got < size) {
      break;
    }
    left -= std::min(left, got);
    if (left == 0) {
      read_again = link.has_pending();
      break;
    }
  }
  if (session && nghttp2_session_want_write(session.get()) != 0) {
    mark();
  }
}

bool Connection::greet(std::string_view bytes) {
  if (bytes.substr(0, kPreface.size()) == kPreface.substr(0, bytes.size())) {
    stage = bytes.size() > kGreeting ? Stage::kOpen : stage;
    return true;
  }
  count(state.counters.failed_handshakes);
  if (bytes.find(" HTTP/1") != std::string_view::npos) {
    unsent_.append(kNotHttp2);
    write_unsent();
  }
  if (stage != Stage::kClosed) {
    linger();
  }
  return false;
}

void Connection::feed(std::string_view bytes) {
  if (stage == Stage::kPreface && block_bytes == 0 && !greet(bytes)) {
    return;
  }
  block_bytes += bytes.size();
  being_read = bytes;
  data_end = 0;
  const ssize_t consumed =
      nghttp2_session_mem_recv(session.get(), reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  if (consumed < 0) {
    if (consumed == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
      count(state.counters.failed_handshakes);
    } else if (consumed == NGHTTP2_ERR_FLOODED || consumed == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) {
      count(state.counters.floods);
    }
    close();
    return;
  }
  if (stage == Stage::kPreface && block_bytes == 0) {
    stage = Stage::kOpen;  // a frame has begun
  }
  if (block_bytes > kMostBlock) {
    count(state.counters.floods);
    terminate(NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

double Connection::message_arrived(std::size_t size) const {
  const double first = link.received_first();
  const double last = link.received();
  // A whole message is taken to have come in one packet, the first one of those that were read or a later one.
  const bool whole = data_end >= size;
  const std::size_t before = whole ? data_end - size : data_end;
  const std::size_t most = whole ? being_read.size() - size : being_read.size();
  return most == 0 ? last : first + (last - first) * static_cast<double>(before) / static_cast<double>(most);
}

bool Connection::write_unsent() {
  while (unsent_taken_ < unsent_.size()) {
    std::size_t sent = 0;
    switch (link.write(unsent_.data() + unsent_taken_, unsent_.size() - unsent_taken_, sent)) {
      case Link::Result::kWouldBlock:
        blocked_ = true;
        return false;
      case Link::Result::kClosed:
        close();
        return false;
      case Link::Result::kOk:
        unsent_taken_ += sent;
        last_written_ = now();
    }
  }
  unsent_.clear(0);
  unsent_taken_ = 0;
  blocked_ = false;
  return true;
}

void Connection::flush(Buffer& scratch) {
  dirty = false;
  if (stage == Stage::kHandshake || stage == Stage::kClosed) {
    return;
  }
  while (write_unsent() && session) {
    scratch.clear(2 * kWriteChunk);
    while (scratch.size() < kWriteChunk) {
      const std::uint8_t* bytes = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session.get(), &bytes);
      if (size < 0) {
        close();
        return;
      }
      if (size == 0) {
        break;
      }
      scratch.append(bytes, static_cast<std::size_t>(size));
    }
    if (scratch.empty()) {
      break;
    }
    // Before the kernel has them: it may let their reader run before it returns. Or when the rest begins to wait.
    last_written_ = now();
    state.written.store(last_written_, std::memory_order_relaxed);
    std::size_t sent = 0;
    const Link::Result result = link.write(scratch.data(), scratch.size(), sent);
    if (result == Link::Result::kClosed) {
      close();
      return;
    }
    if (taken) {
      taken = false;
      last_taken = last_written_;
    }
    if (sent < scratch.size()) {
      unsent_.append(scratch.view().substr(sent));
    }
  }
  const bool over = stage == Stage::kOpen && session && nghttp2_session_want_read(session.get()) == 0 &&
                    nghttp2_session_want_write(session.get()) == 0;
  if (over && unsent_.empty()) {
    linger();
  }
}

std::uint32_t Connection::wanted_events() const {
  const bool full = unsent_.size() - unsent_taken_ > kMostUnsent;
  return (full ? 0U : static_cast<std::uint32_t>(EPOLLIN)) | (blocked_ ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
}

void Connection::look_after(double now) {
  const Limits& limits = state.limits;
  const bool greeted = stage != Stage::kHandshake && stage != Stage::kPreface;
  if (!greeted && now - opened_ > limits.handshake_seconds) {
    count(state.counters.failed_handshakes);
    close();
    return;
  }
  if (now > ends_at_) {
    close();
    return;
  }
  if (stage != Stage::kOpen) {
    return;
  }
  const bool blocked = !unsent_.empty() && now - last_written_ > limits.stalled_seconds;
  const bool shut = unsent_replies > 0 && now - last_taken > limits.stalled_seconds;
  const bool unanswered = ping_sent_ != 0 && now - ping_sent_ > limits.keepalive_timeout;
  if (blocked || shut || unanswered) {
    count(state.counters.stalled);
    close();
    return;
  }
  if (now > goaway_at_) {
    goaway_at_ = kNever;
    nghttp2_submit_goaway(session.get(), NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session.get()),
                          NGHTTP2_NO_ERROR, nullptr, 0);
    mark();
  }
  if (ends_at_ != kNever) {
    return;
  }
  const bool old = limits.age_seconds > 0 && now - opened_ > limits.age_seconds;
  const bool idle = limits.idle_seconds > 0 && calls.empty() && now - last_call > limits.idle_seconds;
  if (old || idle) {
    drain(now, limits.grace_seconds);
  } else if (limits.keepalive_seconds > 0 && ping_sent_ == 0 && now - last_read_ > limits.keepalive_seconds) {
    ping_sent_ = now;
    nghttp2_submit_ping(session.get(), NGHTTP2_FLAG_NONE, nullptr);
    mark();
  }
}

void Connection::drain(double now, double grace) {
  if (stage == Stage::kHandshake || stage == Stage::kPreface) {
    close();
  } else if (stage == Stage::kOpen) {
    // Calls that are on their way when the caller hears of it are still answered.
    nghttp2_submit_shutdown_notice(session.get());
    goaway_at_ = std::min(goaway_at_, now + kNoticeSeconds);
    ends_at_ = std::min(ends_at_, now + grace);
    mark();
  }
}

void Connection::terminate(std::uint32_t reason) {
  nghttp2_session_terminate_session(session.get(), reason);
  mark();
}

void Connection::linger() {
  abandon_calls();
  link.finish_writing();
  stage = Stage::kLingering;
  ends_at_ = now() + kLingerSeconds;
}

void Connection::abandon_calls() {
  session.reset();  // it refers to them
  while (Call* call = calls.front()) {
    if (call->open) {
      requests::on_close(state, *call);
    }
    if (calls.front() == call) {  // Python has it
      calls.erase(call);
      call->connection = nullptr;
    }
  }
}

void Connection::close() {
  if (stage == Stage::kClosed) {
    return;
  }
  stage = Stage::kClosed;
  abandon_calls();
  state.closed.push_back(this);
}

}  // namespace wire
