// One call, from its first header to its answer, and the table that finds calls by the numbers Python knows them by.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "buffer.h"
#include "clock.h"
#include "grpc_text.h"
#include "inflate.h"

namespace wire {

struct Call;
struct Connection;

using Metadata = std::vector<std::pair<std::string, std::string>>;

struct Method {
  enum class Kind {
    kHot,      // one message; handed over in batches
    kControl,  // one message; handed over as an event
    kStream,   // any number of messages, each handed over when it is asked for
  };

  std::string path;
  Kind kind;
  std::size_t max_message;
  bool open;  // needs no token
  int index;
};

// A list through the calls themselves; each call is in at most one list of a kind.
struct CallLinks {
  Call* previous = nullptr;
  Call* next = nullptr;
};

template <CallLinks Call::*kLinks>
class CallList {
 public:
  [[nodiscard]] Call* front() const { return first_; }
  [[nodiscard]] bool empty() const { return first_ == nullptr; }
  [[nodiscard]] static Call* next(const Call* call) { return (call->*kLinks).next; }

  void push_back(Call* call) {
    (call->*kLinks) = {last_, nullptr};
    (last_ != nullptr ? (last_->*kLinks).next : first_) = call;
    last_ = call;
  }

  void erase(Call* call) {
    const CallLinks links = call->*kLinks;
    (links.previous != nullptr ? (links.previous->*kLinks).next : first_) = links.next;
    (links.next != nullptr ? (links.next->*kLinks).previous : last_) = links.previous;
    (call->*kLinks) = {};
  }

 private:
  Call* first_ = nullptr;
  Call* last_ = nullptr;
};

// How far a call has come. Its stream may end at any time, and its answer may come at any time once it is handed over.
enum class Phase : std::uint8_t {
  kHeaders,    // its headers are arriving
  kBody,       // its message is arriving
  kInflating,  // the message is here, compressed
  kHanded,     // the message is Python's
  kStreaming,  // Python has the call, and asks for its messages
  kAnswered,   // the status is submitted; what arrives is ignored
};

struct Call {
  std::uint64_t number = 0;
  std::atomic<std::uint64_t> alive{0};  // its number, while the caller waits for the answer

  Connection* connection = nullptr;  // null once that has ended
  std::int32_t stream = 0;
  bool open = false;  // the stream is
  CallLinks of_connection;
  CallLinks of_incomplete;
  Phase phase = Phase::kHeaders;
  bool handed = false;      // Python owes an answer
  bool ended = false;       // the caller has sent everything
  bool incomplete = false;  // in the list of those whose message has not arrived
  bool waiting = false;     // for room

  // What the headers say.
  const Method* method = nullptr;
  std::string path;  // of an unknown method
  std::string authorization;
  std::string bearer;          // the digest of its token, where callers need one
  std::string problem_header;  // an encoding or a header that is not understood
  Metadata metadata;
  std::size_t header_bytes = 0;
  double timeout = kNever;
  Encoding encoding = Encoding::kIdentity;
  ContentType content = ContentType::kNotGrpc;
  bool is_post = false;
  bool unknown_encoding = false;
  bool bad_timeout = false;
  bool bad_binary = false;
  bool wants_object = false;  // carries a header that Python wants to see

  // The message.
  std::array<unsigned char, 5> prefix{};
  std::size_t prefix_bytes = 0;
  std::size_t expected = 0;
  Buffer body;
  bool compressed = false;
  double began = 0;    // when its headers had arrived, or when it got the room that it waited for
  double arrived = 0;  // when its last byte had
  double deadline = kNever;
  std::size_t charged = 0;  // bytes of the room that it holds
  std::size_t charged_large = 0;
  std::unique_ptr<Inflater> inflater;
  Buffer inflated;
  bool wants_message = false;  // of a stream
  bool held_back = false;      // of a stream: its next message waits until replies have been read
  std::size_t taken_off = 0;   // bytes of `body` that flow control counts no longer, of a stream's large message

  // The answer.
  Buffer out;  // messages with their prefixes
  std::size_t out_taken = 0;
  bool responding = false;  // the response's headers are submitted
  bool finished = false;    // the status is known
  int status = 0;
  std::string status_message;
  Metadata trailing;

  void reset();
};

class CallTable {
 public:
  CallTable();
  ~CallTable();
  CallTable(const CallTable&) = delete;
  CallTable& operator=(const CallTable&) = delete;

  // A fresh call; null if there are as many as there can be.
  Call* acquire();
  void release(Call* call);

  // The call of a number that Python owes an answer to; null: it has been answered already.
  [[nodiscard]] Call* find(std::uint64_t number) const;

  // Whether the caller still waits; from any thread.
  [[nodiscard]] bool alive(std::uint64_t number) const;

 private:
  static constexpr std::size_t kChunk = 1024;
  static constexpr std::size_t kChunks = 4096;

  [[nodiscard]] Call* at(std::uint64_t number) const;

  std::unique_ptr<std::array<std::atomic<Call*>, kChunks>> chunks_;
  std::size_t made_ = 0;
  std::vector<Call*> free_;
};

}  // namespace wire
