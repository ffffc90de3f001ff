// One connection: its bytes, its HTTP/2 session, its calls, and how long it may go on.
#pragma once

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "buffer.h"
#include "call.h"
#include "link.h"
#include "state.h"

namespace wire {

// So many a minute, and no more than that at once.
class Bucket {
 public:
  Bucket(double per_minute, double now) : most_(per_minute), left_(per_minute), filled_(now) {}

  // Takes one; false if none is left.
  bool take(double now);
  void give(double count) { left_ = std::min(most_, left_ + count); }

 private:
  double most_;
  double left_;
  double filled_;
};

struct SessionFree {
  void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
};
using Session = std::unique_ptr<nghttp2_session, SessionFree>;

struct Connection {
  enum class Stage { kHandshake, kPreface, kOpen, kLingering, kClosed };

  Connection(int descriptor, State& shared, double now);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Takes what has arrived. `scratch` is for its bytes.
  void read(char* scratch, std::size_t size);

  // When a message was there whose last byte has just been read; `size` bytes long. By its place among what was read,
  // if the kernel had that in parts.
  [[nodiscard]] double message_arrived(std::size_t size) const;

  // Writes what is to be written; `scratch` is for its bytes, and cleared.
  void flush(Buffer& scratch);

  // Has it flushed at the end of this round.
  void mark();

  // Looks at the clock; to be called a few times a second.
  void look_after(double now);

  // Lets its calls end and takes no others, until `grace` seconds have passed.
  void drain(double now, double grace);

  // Ends it with a reason of HTTP/2's.
  void terminate(std::uint32_t reason);

  // Ends it at once.
  void close();

  // Since when it has been of no use, if others may take its place: it is over, has had time to begin to speak HTTP/2,
  // or has had none of its calls answered for a while. The lowest is missed least.
  [[nodiscard]] std::optional<double> gives_way(double now) const;

  // Ends it, so that another one can be taken; `at_once`, or with a word to its caller.
  void make_way(bool at_once);

  State& state;
  const std::uint64_t number;  // no two connections of one state have the same
  Link link;
  Session session;
  Stage stage = Stage::kHandshake;

  CallList<&Call::of_connection> calls;
  std::size_t owed = 0;            // calls that Python has and whose stream has ended
  std::size_t arriving = 0;        // large messages that have their room and are not here yet
  std::size_t large_bytes = 0;     // of room for large messages
  std::size_t unsent_replies = 0;  // bytes that the session has not taken
  std::size_t block_bytes = 0;     // received since a frame began
  std::string_view being_read;     // the bytes that are
  std::size_t data_end = 0;        // in them, of the last message's bytes
  double last_call;                // when there last was one
  double last_answered = 0;        // and one that was let in and answered
  bool of_use = false;             // one has been answered just now
  double last_taken;               // when bytes of replies last left, or began to wait
  bool taken = false;              // some have left just now
  Bucket pings;
  Bucket resets;
  Bucket empty_frames;

  bool dirty = false;
  bool read_again = false;   // bytes wait that no poll tells of, or more than one turn's share
  std::uint32_t polled = 0;  // events that epoll was asked for
  [[nodiscard]] std::uint32_t wanted_events() const;

 private:
  bool shake_hands();
  bool greet(std::string_view bytes);
  void feed(std::string_view bytes);
  bool write_unsent();
  void linger();
  void abandon_calls();

  Buffer unsent_;
  std::size_t unsent_taken_ = 0;
  bool blocked_ = false;  // the socket takes no more
  double last_written_;
  double opened_;
  double last_read_;
  double ping_sent_ = 0;
  double goaway_at_ = kNever;  // when the notice of the end becomes the end
  double ends_at_ = kNever;    // whatever has not ended by then is cut off
};

}  // namespace wire
