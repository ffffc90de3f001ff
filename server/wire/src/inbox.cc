#include "inbox.h"

#include <chrono>
#include <utility>

#include "connection.h"

namespace wire {
namespace {

constexpr std::size_t kRowsAtFirst = 16;
constexpr int kMostColumns = 16;  // that are looked at for one to which a row can be added

}  // namespace

void Inbox::add_row(const std::shared_ptr<const PlainFormat>& format, const Call& call) {
  const std::lock_guard lock(mutex_);
  Column& column = column_of(format, call.bearer);
  column.pixels.append(call.body.view().substr(format->prefix.size()));
  column.numbers.push_back(call.number);
  column.callers.push_back(call.connection->number);
  column.arrived.push_back(call.arrived);
  column.deadlines.push_back(call.deadline);
}

// None from before the last object, so that nobody is overtaken by it or overtakes it.
Column& Inbox::column_of(const std::shared_ptr<const PlainFormat>& format, const std::string& bearer) {
  int looked_at = 0;
  for (auto item = arrived_.items.rbegin(); item != arrived_.items.rend() && looked_at < kMostColumns; ++item) {
    auto* const column = std::get_if<Column>(&*item);
    if (column == nullptr) {
      break;
    }
    if (column->format == format && column->bearer == bearer) {
      return *column;
    }
    ++looked_at;
  }
  auto& made = std::get<Column>(arrived_.items.emplace_back(Column{format, bearer, {}, {}, {}, {}, {}}));
  made.pixels.reserve(kRowsAtFirst * format->pixels);
  for (auto* const numbers : {&made.numbers, &made.callers}) {
    numbers->reserve(kRowsAtFirst);
  }
  for (auto* const times : {&made.arrived, &made.deadlines}) {
    times->reserve(kRowsAtFirst);
  }
  return made;
}

void Inbox::add_call(HandedCall call) {
  const std::lock_guard lock(mutex_);
  arrived_.items.emplace_back(std::move(call));
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
