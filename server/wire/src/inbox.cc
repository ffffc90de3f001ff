#include "inbox.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace wire {
namespace {

constexpr std::size_t kRowsAtFirst = 16;

}  // namespace

void Inbox::add_row(const PlainFormat& format, const Call& call) {
  const std::lock_guard lock(mutex_);
  // None from before the last object, so that nobody is overtaken by it or overtakes it.
  const std::size_t objects = arrived_.calls.size();
  const auto found = std::find_if(arrived_.columns.rbegin(), arrived_.columns.rend(), [&](const Column& present) {
    return present.tag == format.tag || present.after != objects;
  });
  const bool fits = found != arrived_.columns.rend() && found->after == objects;
  Column& column = fits ? *found : arrived_.columns.emplace_back();
  if (column.numbers.empty()) {
    column.tag = format.tag;
    column.after = objects;
    column.pixels_each = format.pixels;
    column.pixels.reserve(kRowsAtFirst * format.pixels);
    column.numbers.reserve(kRowsAtFirst);
    column.arrived.reserve(kRowsAtFirst);
    column.deadlines.reserve(kRowsAtFirst);
  }
  column.pixels.append(call.body.view().substr(format.prefix.size()));
  column.numbers.push_back(call.number);
  column.arrived.push_back(call.arrived);
  column.deadlines.push_back(call.deadline);
  ++arrived_.count;
}

void Inbox::add_call(HandedCall call) {
  const std::lock_guard lock(mutex_);
  arrived_.calls.push_back(std::move(call));
  ++arrived_.count;
}

void Inbox::add_gone(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  arrived_.gone.push_back(number);
}

void Inbox::add_event(Event event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  has_events_.notify_one();
}

bool Inbox::empty() const {
  const std::lock_guard lock(mutex_);
  return arrived_.empty();
}

Arrived Inbox::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(arrived_, {});
}

std::vector<Event> Inbox::take_events(double seconds) {
  std::unique_lock lock(mutex_);
  has_events_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return closed_ || !events_.empty(); });
  return std::exchange(events_, {});
}

void Inbox::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  has_events_.notify_all();
}

}  // namespace wire
