// What has arrived and waits for Python.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "buffer.h"
#include "call.h"

namespace wire {

// A request that needs no object: this prefix, then the pixels of one image.
struct PlainFormat {
  int method;
  std::string prefix;
  std::size_t pixels;
};

// Calls of one plain format, all with the same token.
struct Column {
  std::shared_ptr<const PlainFormat> format;
  std::string bearer;  // the digest of the token
  Buffer pixels;
  std::vector<std::uint64_t> numbers;
  std::vector<std::uint64_t> callers;  // the numbers of their connections
  std::vector<double> arrived;
  std::vector<double> deadlines;
};

// A call with its message.
struct HandedCall {
  std::uint64_t number;
  std::uint64_t caller;  // the number of its connection
  int method;
  Buffer payload;
  Metadata metadata;
  double arrived;
  double deadline;
  std::string bearer;  // the digest of its token
};

struct Arrived {
  // In the order of arrival: nobody overtakes an object. Rows of several columns with no object between them may.
  std::vector<std::variant<HandedCall, Column>> items;
  std::vector<std::uint64_t> gone;  // numbers of earlier calls whose callers have left

  [[nodiscard]] bool empty() const { return items.empty() && gone.empty(); }
};

struct Event {
  enum class Kind { kCall, kMessage, kEnd, kGone };

  Kind kind;
  HandedCall call;  // of kMessage the number and the payload only, of kEnd and kGone the number
};

class Inbox {
 public:
  void add_row(const std::shared_ptr<const PlainFormat>& format, const Call& call);
  void add_call(HandedCall call);
  void add_gone(std::uint64_t number);
  void add_event(Event event);

  [[nodiscard]] bool empty() const;
  Arrived take();

  // Events, as soon as there is one; none after `seconds` or once the inbox is closed.
  std::vector<Event> take_events(double seconds);
  void close();

 private:
  Column& column_of(const std::shared_ptr<const PlainFormat>& format, const std::string& bearer);

  mutable std::mutex mutex_;
  std::condition_variable has_events_;
  Arrived arrived_;
  std::vector<Event> events_;
  bool closed_ = false;
};

}  // namespace wire
