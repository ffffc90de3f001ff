// An open-loop load generator: requests go out when they are due, at random (Poisson) times, whatever has become of
// those before them, and what is measured is the time from then to the whole answer. So a server that stalls is charged
// with the wait of every request that was due meanwhile; generators that wait for answers charge it with one.
//
//     open_loop PORT PATH BODY KIND CONTENT_TYPE RATE SECONDS WARM CONNECTIONS SEED
//
// KIND is "grpc", "h2" (POST over HTTP/2 without gRPC) or "h1" (one request at a time on a connection). Requests of the
// first WARM seconds are not counted. Prints one JSON object; times are in microseconds.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
constexpr double kPatience = 10.0;  // seconds after the last request was due
constexpr int kWindow = 1 << 24;    // bytes of answers that may be on their way
constexpr int64_t kNotCounted = -1;

struct Asked {
  std::string host;
  int port = 0;
  std::string path, body, kind, content_type;
};

struct Request {
  Time due, sent;
  bool counted = false;
};

// What became of the requests.
struct Outcome {
  std::vector<Request> requests;
  std::vector<int64_t> latencies, lateness;  // from when a request was due to its answer, and to its sending
  // From its sending until the kernel had its answer; of the requests that do not count too.
  std::vector<int64_t> answering;
  std::map<std::string, int64_t> failed;
  size_t ended = 0;
  Time received;  // when the kernel had what is being read

  void sent(size_t number) {
    requests[number].sent = Clock::now();
    if (requests[number].counted) lateness.push_back(since(requests[number].due));
  }

  void end(size_t number, const std::string& failure) {
    ++ended;
    if (failure.empty()) answering.push_back(between(requests[number].sent, received));
    if (!requests[number].counted) return;
    if (failure.empty()) {
      latencies.push_back(since(requests[number].due));
    } else {
      ++failed[failure];
    }
  }

  static int64_t since(Time then) { return between(then, Clock::now()); }

  static int64_t between(Time then, Time later) {
    return std::chrono::duration_cast<std::chrono::microseconds>(later - then).count();
  }
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "open_loop: %s\n", what.c_str());
  std::exit(1);
}

class Connection {
 public:
  Connection(const Asked& asked, Outcome& outcome) : asked_(asked), outcome_(outcome) {
    descriptor_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(asked.port));
    inet_pton(AF_INET, asked.host.c_str(), &address.sin_addr);
    if (connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      fail(std::string("cannot connect: ") + std::strerror(errno));
    const int on = 1;
    setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(descriptor_, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    fcntl(descriptor_, F_SETFL, O_NONBLOCK);
  }
  virtual ~Connection() { close(descriptor_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int descriptor() const { return descriptor_; }
  virtual void submit(size_t number) = 0;

  // Writes what there is to write; false once the connection is of no use.
  bool flush() {
    while (alive_) {
      if (unsent_.empty()) fill();
      if (unsent_.empty()) return true;
      const ssize_t count = write(descriptor_, unsent_.data() + begun_, unsent_.size() - begun_);
      if (count < 0) {
        if (errno == EAGAIN) return true;
        die();
        return false;
      }
      begun_ += static_cast<size_t>(count);
      if (begun_ == unsent_.size()) {
        unsent_.clear();
        begun_ = 0;
      }
    }
    return false;
  }

  void readable() {
    char buffer[1 << 16];
    while (alive_) {
      const ssize_t count = receive(buffer, sizeof buffer);
      if (count < 0 && errno == EAGAIN) break;
      if (count <= 0 || !take(buffer, static_cast<size_t>(count))) {
        die();
        return;
      }
    }
    flush();
  }

 protected:
  virtual void fill() {}
  virtual bool take(const char* data, size_t size) = 0;
  virtual void abandon() = 0;  // ends what is in flight as failed

  void die() {
    if (!alive_) return;
    alive_ = false;
    abandon();
  }

  const Asked& asked_;
  Outcome& outcome_;
  std::string unsent_;
  size_t begun_ = 0;
  bool alive_ = true;

 private:
  // As read(2); tells the outcome when the kernel had the bytes.
  ssize_t receive(char* buffer, size_t size) {
    iovec bytes{buffer, size};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(timespec))];
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t count = recvmsg(descriptor_, &message, 0);
    outcome_.received = Clock::now();
    const cmsghdr* const said = count > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
    if (said != nullptr && said->cmsg_level == SOL_SOCKET && said->cmsg_type == SCM_TIMESTAMPNS) {
      timespec moment{};
      std::memcpy(&moment, CMSG_DATA(said), sizeof moment);
      const auto wall = std::chrono::seconds(moment.tv_sec) + std::chrono::nanoseconds(moment.tv_nsec);
      outcome_.received -= std::chrono::system_clock::now().time_since_epoch() - wall;
    }
    return count;
  }

  int descriptor_;
};

class Http2 final : public Connection {
 public:
  Http2(const Asked& asked, Outcome& outcome) : Connection(asked, outcome) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_before_frame_send_callback(callbacks, before_send);
    nghttp2_session_client_new(&session_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow}};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindow);
  }
  ~Http2() override { nghttp2_session_del(session_); }

  void submit(size_t number) override {
    if (!alive_) {
      outcome_.end(number, "closed");
      return;
    }
    auto stream = std::make_unique<Stream>();
    stream->number = number;
    nghttp2_data_provider body{};
    body.source.ptr = stream.get();
    body.read_callback = read_body;
    const std::string authority = asked_.host + ":" + std::to_string(asked_.port);
    const nghttp2_nv fields[] = {field(":method", "POST"),
                                 field(":scheme", "http"),
                                 field(":path", asked_.path),
                                 field(":authority", authority),
                                 field("content-type", asked_.content_type),
                                 field("te", "trailers")};
    const int32_t id = nghttp2_submit_request(session_, nullptr, fields, std::size(fields), &body, stream.get());
    if (id < 0) {
      outcome_.end(number, nghttp2_strerror(id));
      return;
    }
    streams_[id] = std::move(stream);
  }

 protected:
  void fill() override {
    const uint8_t* data = nullptr;
    while (unsent_.size() < (1 << 16)) {
      const ssize_t count = nghttp2_session_mem_send(session_, &data);
      if (count <= 0) break;
      unsent_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(count));
    }
  }

  bool take(const char* data, size_t size) override {
    return nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(data), size) >= 0 &&
           (nghttp2_session_want_read(session_) != 0 || nghttp2_session_want_write(session_) != 0);
  }

  void abandon() override {
    for (const auto& [id, stream] : streams_) outcome_.end(stream->number, "closed");
    streams_.clear();
  }

 private:
  struct Stream {
    size_t number = 0, offset = 0;
    std::string status, grpc_status;
  };

  static nghttp2_nv field(std::string_view name, std::string_view value) {
    return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
            reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
            NGHTTP2_NV_FLAG_NONE};
  }

  static ssize_t read_body(nghttp2_session*, int32_t, uint8_t* buffer, size_t length, uint32_t* flags,
                           nghttp2_data_source* source, void* self) {
    const std::string& body = static_cast<Http2*>(self)->asked_.body;
    auto& offset = static_cast<Stream*>(source->ptr)->offset;
    const size_t count = std::min(length, body.size() - offset);
    std::memcpy(buffer, body.data() + offset, count);
    offset += count;
    if (offset == body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(count);
  }

  static int before_send(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
    if (frame->hd.type == NGHTTP2_HEADERS) {
      auto* stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
      if (stream != nullptr) static_cast<Http2*>(self)->outcome_.sent(stream->number);
    }
    return 0;
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void*) {
    auto* stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
    if (stream == nullptr) return 0;
    const std::string text(reinterpret_cast<const char*>(name), name_size);
    if (text == ":status") stream->status.assign(reinterpret_cast<const char*>(value), value_size);
    if (text == "grpc-status") stream->grpc_status.assign(reinterpret_cast<const char*>(value), value_size);
    return 0;
  }

  static int on_close(nghttp2_session*, int32_t id, uint32_t error, void* pointer) {
    auto* self = static_cast<Http2*>(pointer);
    const auto found = self->streams_.find(id);
    if (found == self->streams_.end()) return 0;
    const Stream& stream = *found->second;
    std::string failure;
    if (stream.status != "200") {
      failure = stream.status.empty() ? std::string("reset ") + nghttp2_http2_strerror(error) : "http " + stream.status;
    } else if (self->asked_.kind == "grpc" && stream.grpc_status != "0") {
      failure = "grpc-status " + stream.grpc_status;
    }
    self->outcome_.end(stream.number, failure);
    self->streams_.erase(found);
    return 0;
  }

  nghttp2_session* session_ = nullptr;
  std::map<int32_t, std::unique_ptr<Stream>> streams_;
};

// One request at a time; those that are due meanwhile wait in the queue that all connections share.
class Http1 final : public Connection {
 public:
  Http1(const Asked& asked, Outcome& outcome, std::deque<size_t>& waiting)
      : Connection(asked, outcome), waiting_(waiting) {}

  bool idle() const { return alive_ && number_ == kNotCounted; }

  void submit(size_t number) override {
    number_ = static_cast<int64_t>(number);
    outcome_.sent(number);
    unsent_ += "POST " + asked_.path + " HTTP/1.1\r\nHost: " + asked_.host + ":" + std::to_string(asked_.port) +
               "\r\nContent-Type: " + asked_.content_type +
               "\r\nContent-Length: " + std::to_string(asked_.body.size()) + "\r\n\r\n" + asked_.body;
    flush();
  }

 protected:
  bool take(const char* data, size_t size) override {
    received_.append(data, size);
    const size_t head = received_.find("\r\n\r\n");
    if (head == std::string::npos) return true;
    const size_t length = content_length(received_.substr(0, head));
    if (received_.size() < head + 4 + length) return true;
    const std::string status = received_.size() > 12 ? received_.substr(9, 3) : "";
    received_.erase(0, head + 4 + length);
    const auto number = static_cast<size_t>(number_);
    number_ = kNotCounted;
    outcome_.end(number, status == "200" ? "" : "http " + status);
    if (!waiting_.empty()) {
      const size_t next = waiting_.front();
      waiting_.pop_front();
      submit(next);
    }
    return true;
  }

  void abandon() override {
    if (number_ != kNotCounted) outcome_.end(static_cast<size_t>(number_), "closed");
    number_ = kNotCounted;
  }

 private:
  static size_t content_length(std::string head) {
    for (char& character : head) character = static_cast<char>(std::tolower(character));
    const size_t found = head.find("content-length:");
    if (found == std::string::npos) fail("an answer without content-length");
    return std::strtoul(head.c_str() + found + 15, nullptr, 10);
  }

  std::deque<size_t>& waiting_;
  int64_t number_ = kNotCounted;
  std::string received_;
};

void print(const char* name, const std::vector<int64_t>& values) {
  std::printf("\"%s\": [", name);
  for (size_t i = 0; i < values.size(); ++i) std::printf(i ? ",%lld" : "%lld", static_cast<long long>(values[i]));
  std::printf("], ");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 11) fail("expected PORT PATH BODY KIND CONTENT_TYPE RATE SECONDS WARM CONNECTIONS SEED");
  Asked asked;
  asked.host = "127.0.0.1";
  asked.port = std::atoi(arguments[1]);
  asked.path = arguments[2];
  std::ifstream file(arguments[3], std::ios::binary);
  if (!file) fail(std::string("cannot read ") + arguments[3]);
  asked.body.assign(std::istreambuf_iterator<char>(file), {});
  asked.kind = arguments[4];
  asked.content_type = arguments[5];
  const double rate = std::atof(arguments[6]), seconds = std::atof(arguments[7]), warm = std::atof(arguments[8]);
  const int connections = std::atoi(arguments[9]);
  if (rate <= 0 || seconds <= 0 || connections <= 0) fail("RATE, SECONDS and CONNECTIONS must be above 0");
  prctl(PR_SET_TIMERSLACK, 1UL);

  Outcome outcome;
  std::deque<size_t> waiting;  // of HTTP/1
  std::vector<std::unique_ptr<Connection>> open;
  std::vector<Http1*> one_at_a_time;
  const int epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  const auto watch = [epoll](int descriptor, uint32_t what, void* pointer) {
    epoll_event event{};
    event.events = what;
    event.data.ptr = pointer;
    epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
  };
  watch(timer, EPOLLIN, nullptr);
  for (int number = 0; number < connections; ++number) {
    if (asked.kind == "h1") {
      auto one = std::make_unique<Http1>(asked, outcome, waiting);
      one_at_a_time.push_back(one.get());
      open.push_back(std::move(one));
    } else {
      open.push_back(std::make_unique<Http2>(asked, outcome));
    }
    watch(open.back()->descriptor(), EPOLLIN | EPOLLOUT | EPOLLET, open.back().get());
    open.back()->flush();
  }

  std::mt19937_64 random(std::strtoull(arguments[10], nullptr, 10));
  std::exponential_distribution<double> gap(rate);
  double next = 0.25;  // seconds from the start; until then the connections' settings are exchanged
  const double begin = next + warm, end = begin + seconds;
  const Time start = Clock::now();
  const auto elapsed = [start] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  size_t turn = 0;
  std::vector<epoll_event> events(256);
  for (;;) {
    const double now = elapsed();
    for (; next <= now && next < end; next += gap(random)) {
      const size_t number = outcome.requests.size();
      outcome.requests.push_back(
          {start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(next)), {}, next >= begin});
      if (asked.kind == "h1") {
        Http1* idle = nullptr;
        for (size_t tried = 0; tried < one_at_a_time.size() && idle == nullptr; ++tried) {
          Http1* one = one_at_a_time[turn++ % one_at_a_time.size()];
          if (one->idle()) idle = one;
        }
        if (idle == nullptr) {
          waiting.push_back(number);
        } else {
          idle->submit(number);
        }
      } else {
        open[turn++ % open.size()]->submit(number);
      }
    }
    for (const auto& one : open) one->flush();
    if (next >= end && outcome.ended == outcome.requests.size()) break;
    if (now > end + kPatience) break;
    const double until = next < end ? next : end + kPatience;
    itimerspec when{};
    const auto left = static_cast<int64_t>(std::max(1e-6, until - elapsed()) * 1e9);
    when.it_value.tv_sec = left / 1'000'000'000;
    when.it_value.tv_nsec = left % 1'000'000'000;
    timerfd_settime(timer, 0, &when, nullptr);
    const int happened = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int number = 0; number < happened; ++number) {
      auto* one = static_cast<Connection*>(events[static_cast<size_t>(number)].data.ptr);
      if (one != nullptr) one->readable();
    }
  }

  size_t counted = 0;
  for (const Request& request : outcome.requests) counted += request.counted;
  int64_t failed = 0;
  for (const auto& [reason, times] : outcome.failed) failed += times;
  const auto unanswered = static_cast<int64_t>(counted) - static_cast<int64_t>(outcome.latencies.size()) - failed;
  if (unanswered > 0) outcome.failed["unanswered"] = unanswered;
  std::printf("{\"due\": %zu, ", counted);
  print("latencies", outcome.latencies);
  print("lateness", outcome.lateness);
  print("answering", outcome.answering);
  std::printf("\"failed\": {");
  const char* separator = "";
  for (const auto& [reason, times] : outcome.failed) {
    std::printf("%s\"%s\": %lld", separator, reason.c_str(), static_cast<long long>(times));
    separator = ", ";
  }
  std::printf("}}\n");
}
