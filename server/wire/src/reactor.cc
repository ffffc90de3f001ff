#include "reactor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <optional>
#include <system_error>
#include <utility>

#include "clock.h"
#include "replies.h"
#include "requests.h"
#include "status.h"

namespace wire {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kInflateBytes = 256 << 10;  // of output in one round, about half a millisecond
constexpr int kMostAccepted = 64;                 // connections in one round
constexpr int kMostEvents = 256;
constexpr int kMostHandshakes = 2;  // steps in one round; a signature takes up to a millisecond
constexpr double kSweepSeconds = 0.25;
constexpr double kSearchSeconds = 0.05;    // between two searches for connections that give way to others
constexpr std::ptrdiff_t kMostFound = 64;  // by one
constexpr std::size_t kMostSpare = 64;     // connections beyond the limit, while their callers are told that they end
constexpr int kLongMilliseconds = 1000;

int checked(int number) {
  if (number < 0) {
    throw std::system_error(errno, std::generic_category());
  }
  return number;
}

int open_spare() {
  return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) {
    close(number_);
  }
}

Reactor::Reactor(const Limits& limits, std::vector<Method> methods, double takeover)
    : state_(limits, std::move(methods)),
      takeover_(takeover),
      epoll_(checked(epoll_create1(EPOLL_CLOEXEC))),
      waker_(checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))),
      alarm_(checked(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC))),
      spare_(open_spare()),
      reading_(kReadBytes),
      listened_(now()) {
  epoll_event event{EPOLLIN, {.ptr = &waker_}};
  checked(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, waker_.get(), &event));
}

Reactor::~Reactor() {
  stop(0);
  close(spare_);
}

void Reactor::listen(int descriptor) {
  auto listener = std::make_unique<Descriptor>(descriptor);
  checked(fcntl(descriptor, F_SETFL, checked(fcntl(descriptor, F_GETFL)) | O_NONBLOCK));
  epoll_event event{EPOLLIN, {.ptr = listener.get()}};
  checked(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event));
  listeners_.push_back(std::move(listener));
}

void Reactor::start() {
  thread_ = std::thread([this] { take_over(); });
  arm(takeover_);
}

void Reactor::take_over() {
  while (!stopping_) {
    std::uint64_t times = 0;
    if (read(alarm_.get(), &times, sizeof times) < 0 || received_) {
      continue;
    }
    {
      const std::lock_guard driving(turn_);
      while (!stopping_ && wanting_ == 0) {
        turn(kLongMilliseconds);
      }
    }
    settle();
  }
}

Arrived Reactor::receive(double seconds) {
  if (Arrived arrived = state_.inbox.take(); !arrived.empty() || nudged_.exchange(false) || stopping_) {
    return arrived;
  }
  ++wanting_;
  std::unique_lock driving(turn_, std::try_to_lock);
  if (!driving) {
    wake();
    driving.lock();
  }
  --wanting_;
  received_ = true;
  const double end = now() + seconds;
  double left = seconds;
  do {
    turn(static_cast<int>(std::ceil(std::max(left, 0.0) * 1e3)));
    left = end - now();
  } while (left > 0 && !stopping_ && !nudged_ && state_.inbox.empty());
  nudged_ = false;
  Arrived arrived = state_.inbox.take();
  received_ = false;
  if (!stopping_) {
    arm(takeover_);
  }
  driving.unlock();
  settle();
  return arrived;
}

void Reactor::nudge() {
  nudged_ = true;
  wake();
}

void Reactor::perform(std::function<void()> task) {
  {
    const std::lock_guard lock(tasks_mutex_);
    tasks_.push_back(std::move(task));
    has_tasks_ = true;
  }
  settle();
}

// Nobody leaves tasks behind: whoever has added some or has stopped driving sees to it. While the one that drives
// polls, they need not wait until it gets a core.
void Reactor::settle() {
  while (has_tasks_) {
    const std::unique_lock busy(busy_, std::try_to_lock);
    if (!busy) {
      if (sleeping_) {
        wake();
      }
      return;
    }
    ++settled_;
    const bool nothing_new = sleeping_ && state_.inbox.empty();
    run_tasks();
    flush_all();
    bury();
    if (sleeping_ && (!again_.empty() || !state_.inflating.empty() || (nothing_new && !state_.inbox.empty()))) {
      wake();  // there is something for the one that drives, or that it waits for
    }
  }
}

void Reactor::run_tasks() {
  while (has_tasks_) {
    std::vector<std::function<void()>> tasks;
    {
      const std::lock_guard lock(tasks_mutex_);
      tasks.swap(tasks_);
      has_tasks_ = false;
    }
    for (const auto& task : tasks) {
      task();
    }
  }
}

void Reactor::flush_all() {
  // Flushing one may mark another: there is room again for its message.
  while (!state_.dirty.empty()) {
    const std::vector<Connection*> dirty = std::exchange(state_.dirty, {});
    for (Connection* connection : dirty) {
      connection->flush(writing_);
      poll_for(*connection);
    }
    requests::resume(state_);  // flushing has let callers read
  }
}

void Reactor::poll_for(Connection& connection) {
  const std::uint32_t wanted = connection.wanted_events();
  if (wanted != connection.polled && connection.stage != Connection::Stage::kClosed) {
    epoll_event event{wanted, {.ptr = &connection}};
    epoll_ctl(epoll_.get(),
              connection.polled == 0 && !connections_.contains(&connection) ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
              connection.link.descriptor(), &event);
    connection.polled = wanted;
  }
}

void Reactor::turn(int milliseconds) {
  std::unique_lock busy(busy_);
  run_tasks();
  flush_all();
  if (!again_.empty() || !state_.inflating.empty()) {
    milliseconds = 0;
  } else if (!connections_.empty() || out_of_descriptors_) {
    const double left = std::max(0.0, next_sweep_ - now());
    milliseconds = std::min(milliseconds, static_cast<int>(std::ceil(left * 1e3)));
  }
  sleeping_ = true;
  if (has_tasks_ || (wanting_ > 0 && !received_) || stopping_) {
    milliseconds = 0;
  }
  std::array<epoll_event, kMostEvents> events;
  const std::uint64_t settled = settled_;
  busy.unlock();
  int count = epoll_wait(epoll_.get(), events.data(), kMostEvents, milliseconds);
  busy.lock();
  sleeping_ = false;
  if (settled != settled_) {  // what the poll has told of may be gone
    count = epoll_wait(epoll_.get(), events.data(), kMostEvents, 0);
  }
  handshakes_ = 0;
  for (Connection* connection : std::exchange(again_, {})) {
    serve(*connection, EPOLLIN);
  }
  for (int place = 0; place < count; ++place) {
    const epoll_event& event = events[static_cast<std::size_t>(place)];
    if (event.data.ptr == &waker_) {
      std::uint64_t times = 0;
      [[maybe_unused]] const ssize_t got = read(waker_.get(), &times, sizeof times);
      continue;
    }
    const auto listener = std::find_if(listeners_.begin(), listeners_.end(),
                                       [&event](const auto& known) { return known.get() == event.data.ptr; });
    if (listener != listeners_.end()) {
      accept_from(**listener);
    } else {
      serve(*static_cast<Connection*>(event.data.ptr), event.events);
    }
  }
  requests::inflate_some(state_, kInflateBytes);
  run_tasks();
  const double time = now();
  if (!out_of_descriptors_ && !listeners_.empty()) {
    listened_.store(time, std::memory_order_relaxed);
  }
  if (time >= next_sweep_) {
    next_sweep_ = time + kSweepSeconds;
    sweep(time);
  }
  flush_all();
  bury();
}

void Reactor::serve(Connection& connection, std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    connection.mark();
  }
  if (connection.stage == Connection::Stage::kHandshake && connection.link.encrypted() &&
      ++handshakes_ > kMostHandshakes) {
    return;  // the poll will tell of it again
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && connection.stage != Connection::Stage::kClosed) {
    connection.read(reading_.data(), reading_.size());
    if (connection.read_again) {
      again_.push_back(&connection);
    }
    poll_for(connection);
  }
}

void Reactor::accept_from(const Descriptor& listener) {
  for (int taken = 0; taken < kMostAccepted; ++taken) {
    int descriptor = accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor < 0 && (errno == EMFILE || errno == ENFILE)) {
      // Hang up on the caller: left alone it would wait, and the poll would tell of it again and again.
      out_of_descriptors_ = true;
      close(spare_);
      descriptor = accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor >= 0) {
        close(descriptor);
        wire::count(state_.counters.refused_connections);
      }
      spare_ = open_spare();
      return;
    }
    if (descriptor < 0 && (errno == EINVAL || errno == EBADF || errno == ENOTSOCK)) {
      // It listens no longer, and would be told of for ever; listened() says so.
      std::erase_if(listeners_, [&listener](const auto& known) { return known.get() == &listener; });
      return;
    }
    if (descriptor < 0) {
      break;
    }
    if (connections_.size() - state_.closed.size() >= state_.limits.max_connections && !make_space()) {
      close(descriptor);
      wire::count(state_.counters.refused_connections);
      continue;
    }
    constexpr int kOn = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &kOn, sizeof kOn);  // of no meaning, and harmless, on unix:
    auto connection = std::make_unique<Connection>(descriptor, state_, now());
    poll_for(*connection);
    Connection* const key = connection.get();
    connections_.emplace(key, std::move(connection));
  }
  out_of_descriptors_ = false;
}

// Ends a connection that is missed least, see Connection::gives_way. False if there is none.
bool Reactor::make_space() {
  const double time = now();
  // Looking for them takes long where there are many, so several are found at once, and none too often.
  if (giving_way_.empty() && time >= next_search_) {
    next_search_ = time + kSearchSeconds;
    for (const auto& [connection, owned] : connections_) {
      if (const std::optional<double> since = connection->gives_way(time)) {
        giving_way_.push_back({*since, connection, connection->number});
      }
    }
    const auto last = giving_way_.begin() + std::min<std::ptrdiff_t>(std::ssize(giving_way_), kMostFound);
    std::partial_sort(giving_way_.begin(), last, giving_way_.end());
    giving_way_.erase(last, giving_way_.end());
    std::reverse(giving_way_.begin(), giving_way_.end());
  }
  while (!giving_way_.empty()) {
    const GivingWay found = giving_way_.back();
    giving_way_.pop_back();
    const bool there = connections_.contains(found.connection) && found.connection->number == found.number;
    if (there && found.connection->gives_way(time)) {
      found.connection->make_way(connections_.size() > state_.limits.max_connections + kMostSpare);
      return true;
    }
  }
  return false;
}

void Reactor::sweep(double time) {
  if (out_of_descriptors_) {
    if (const int probe = open_spare(); probe >= 0) {
      out_of_descriptors_ = false;
      if (spare_ < 0) {
        spare_ = probe;
      } else {
        close(probe);
      }
    }
  }
  requests::sweep(state_, time);
  for (const auto& [connection, owned] : connections_) {
    if (connection->stage != Connection::Stage::kClosed) {
      connection->look_after(time);
    }
  }
}

void Reactor::bury() {
  for (Connection* connection : std::exchange(state_.closed, {})) {
    std::erase(state_.dirty, connection);
    std::erase(again_, connection);
    connections_.erase(connection);
  }
}

void Reactor::wake() const {
  constexpr std::uint64_t kOnce = 1;
  [[maybe_unused]] const ssize_t written = write(waker_.get(), &kOnce, sizeof kOnce);
}

void Reactor::arm(double seconds) const {
  itimerspec time{};
  time.it_value.tv_sec = static_cast<time_t>(seconds);
  time.it_value.tv_nsec = std::max(1L, static_cast<long>((seconds - std::floor(seconds)) * 1e9));
  timerfd_settime(alarm_.get(), 0, &time, nullptr);
}

void Reactor::drain(double grace) {
  perform([this, grace] {
    listeners_.clear();
    const double time = now();
    for (const auto& [connection, owned] : connections_) {
      connection->drain(time, grace);
    }
  });
}

void Reactor::stop(double seconds) {
  if (stopping_.exchange(true)) {
    return;
  }
  wake();
  {
    const std::lock_guard driving(turn_);  // whoever had it before has armed the alarm, and nobody does from now on
    arm(0);
  }
  if (thread_.joinable()) {
    thread_.join();
  }
  const std::lock_guard driving(turn_);
  std::unique_lock busy(busy_);
  run_tasks();
  listeners_.clear();
  for (const auto& [connection, owned] : connections_) {
    for (Call* call = connection->calls.front(); call != nullptr; call = connection->calls.next(call)) {
      if (call->open && call->phase != Phase::kAnswered && call->phase != Phase::kHeaders) {
        replies::refuse(state_, *call, kUnavailable, "the server has shut down");
      }
    }
    connection->drain(now(), seconds);
  }
  flush_all();
  bury();
  for (const double end = now() + seconds; !connections_.empty() && now() < end;) {
    busy.unlock();
    turn(10);
    busy.lock();
  }
  for (const auto& [connection, owned] : connections_) {
    connection->close();
  }
  bury();
  state_.inbox.close();
}

}  // namespace wire
