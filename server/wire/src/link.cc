#include "link.h"

#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>
#include <string_view>

#include "clock.h"

namespace wire {
namespace {

// Bytes are read within milliseconds; what the kernel's clock says beyond that is a step of the clock.
constexpr double kLongestUnread = 1;

double seconds_of(const timespec& time) {
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// A moment of the wall's clock on the clock of now().
double on_our_clock(const timespec& moment) {
  timespec wall{};
  clock_gettime(CLOCK_REALTIME, &wall);
  const double present = now();
  return std::clamp(present - (seconds_of(wall) - seconds_of(moment)), present - kLongestUnread, present);
}

// As recvmsg(2); `time` is when the kernel got the last byte, if there is one.
ssize_t receive_some(int descriptor, char* place, std::size_t room, double& time) {
  iovec bytes{place, room};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(timespec))];
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(descriptor, &message, 0);
  if (got > 0) {
    const cmsghdr* const said = CMSG_FIRSTHDR(&message);
    if (said != nullptr && said->cmsg_level == SOL_SOCKET && said->cmsg_type == SCM_TIMESTAMPNS) {
      timespec moment{};
      std::memcpy(&moment, CMSG_DATA(said), sizeof moment);
      time = on_our_clock(moment);
    } else {
      time = now();
    }
  }
  return got;
}

}  // namespace

Link::Link(int descriptor, const TlsContext& context) : descriptor_(descriptor) {
  if (context) {
    tls_.reset(SSL_new(context.get()));
    if (!tls_ || SSL_set_fd(tls_.get(), descriptor) != 1) {
      close(descriptor);
      throw std::bad_alloc();
    }
    SSL_set_accept_state(tls_.get());
  } else {
    established_ = true;
    constexpr int kOn = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_TIMESTAMPNS, &kOn, sizeof kOn);  // where it is refused, read() does without
  }
}

Link::~Link() {
  tls_.reset();
  close(descriptor_);
}

Link::Result Link::handshake() {
  if (established_) {
    return Result::kOk;
  }
  ERR_clear_error();
  const int code = SSL_do_handshake(tls_.get());
  if (code != 1) {
    return failed(code);
  }
  const unsigned char* protocol = nullptr;
  unsigned int length = 0;
  SSL_get0_alpn_selected(tls_.get(), &protocol, &length);
  if (std::string_view(reinterpret_cast<const char*>(protocol), length) != "h2") {
    return Result::kClosed;  // a caller that names no protocol is none of gRPC's
  }
  established_ = true;
  return Result::kOk;
}

Link::Result Link::read(char* place, std::size_t room, std::size_t& count) {
  if (tls_) {
    ERR_clear_error();
    const int code = SSL_read_ex(tls_.get(), place, room, &count);
    received_first_ = received_ = now();
    return code == 1 ? Result::kOk : failed(code);
  }
  return receive(place, room, count);
}

Link::Result Link::receive(char* place, std::size_t room, std::size_t& count) {
  // The kernel says when it got the last byte of what it gives, so the first byte is read by itself.
  const ssize_t first = receive_some(descriptor_, place, 1, received_first_);
  if (first <= 0) {
    return first < 0 && (errno == EAGAIN || errno == EINTR) ? Result::kWouldBlock : Result::kClosed;
  }
  received_ = received_first_;
  const ssize_t others = receive_some(descriptor_, place + 1, room - 1, received_);
  received_first_ = std::min(received_first_, received_);              // two looks at two clocks
  count = 1 + static_cast<std::size_t>(std::max<ssize_t>(others, 0));  // an error is told of again, and so is the end
  return Result::kOk;
}

Link::Result Link::write(const char* bytes, std::size_t size, std::size_t& count) {
  if (tls_) {
    ERR_clear_error();
    const int code = SSL_write_ex(tls_.get(), bytes, size, &count);
    return code == 1 ? Result::kOk : failed(code);
  }
  const ssize_t sent = send(descriptor_, bytes, size, MSG_NOSIGNAL);
  if (sent >= 0) {
    count = static_cast<std::size_t>(sent);
    return Result::kOk;
  }
  return errno == EAGAIN || errno == EINTR ? Result::kWouldBlock : Result::kClosed;
}

Link::Result Link::failed(int code) {
  const int reason = SSL_get_error(tls_.get(), code);
  return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? Result::kWouldBlock : Result::kClosed;
}

void Link::finish_writing() {
  if (tls_ && established_) {
    ERR_clear_error();
    SSL_shutdown(tls_.get());
  }
  shutdown(descriptor_, SHUT_WR);
}

}  // namespace wire
