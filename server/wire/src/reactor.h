// The loop that serves all connections, and who runs it.
//
// One thread at a time drives: it polls, reads, hands calls over and writes answers. The thread that receives calls
// drives while it waits, so that with few calls in flight nothing has to be handed from one thread to another. While it
// is away, with a Run, it answers for nothing; if it stays away for longer than `takeover` seconds the reactor's own
// thread drives in its place until it is back.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "connection.h"
#include "state.h"

namespace wire {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const { return number_; }

 private:
  int number_;
};

class Reactor {
 public:
  Reactor(const Limits& limits, std::vector<Method> methods, double takeover);
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // What belongs to whoever is busy with it; use it in a task.
  State& state() { return state_; }

  // Takes connections from a socket that listens, and owns it from now on.
  void listen(int descriptor);

  // Begins to serve.
  void start();

  // What has arrived, as soon as something has; nothing after `seconds`. For one thread at a time.
  Arrived receive(double seconds);

  // Lets `receive` return at once, with nothing if nothing has arrived: the one that waits, or else the next one.
  void nudge();

  // Has something done: by this thread at once if nobody is busy with the state, and otherwise by whoever is.
  void perform(std::function<void()> task);

  // Stops listening; connections end with their calls, after `grace` seconds at the latest.
  void drain(double grace);

  // Answers what is left with UNAVAILABLE, and ends. Waits for callers to read it, `seconds` at most.
  void stop(double seconds);

  // When connections were last seen to be taken, on the clock of now().
  [[nodiscard]] double listened() const { return listened_.load(std::memory_order_relaxed); }

 private:
  // A connection that may have ended since it was found.
  struct GivingWay {
    double since;
    Connection* connection;
    std::uint64_t number;
    auto operator<=>(const GivingWay&) const = default;
  };

  void take_over();
  void turn(int milliseconds);
  void run_tasks();
  void settle();
  void flush_all();
  void accept_from(const Descriptor& listener);
  bool make_space();
  void serve(Connection& connection, std::uint32_t events);
  void poll_for(Connection& connection);
  void sweep(double now);
  void bury();
  void wake() const;
  void arm(double seconds) const;

  State state_;
  const double takeover_;
  Descriptor epoll_;
  Descriptor waker_;  // an eventfd
  Descriptor alarm_;  // a timerfd: the time of taking over
  int spare_;         // a descriptor to accept and hang up with when there is none left
  std::vector<std::unique_ptr<Descriptor>> listeners_;
  std::unordered_map<Connection*, std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> again_;     // to be read again
  std::vector<GivingWay> giving_way_;  // found by a search, what is missed least last
  double next_search_ = 0;
  std::vector<char> reading_;
  Buffer writing_;
  int handshakes_ = 0;  // steps in this round
  double next_sweep_ = 0;
  std::atomic<double> listened_;
  bool out_of_descriptors_ = false;

  std::mutex turn_;              // whoever holds it drives: polls, and serves connections
  std::mutex busy_;              // whoever holds it uses all of the above; the one that drives does unless it polls
  std::uint64_t settled_ = 0;    // times that tasks were run meanwhile
  std::atomic<int> wanting_{0};  // receivers that want to drive
  std::atomic<bool> received_{false};  // a receiver drives
  std::atomic<bool> nudged_{false};
  std::atomic<bool> sleeping_{false};  // the one that drives polls
  std::mutex tasks_mutex_;
  std::vector<std::function<void()>> tasks_;
  std::atomic<bool> has_tasks_{false};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace wire
