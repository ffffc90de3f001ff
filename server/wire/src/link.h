// Bytes to and from a socket, in the clear or through TLS. Nothing here blocks.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <memory>

#include "tls.h"

namespace wire {

class Link {
 public:
  enum class Result { kOk, kWouldBlock, kClosed };

  // Owns the descriptor from now on. Without a context the bytes travel in the clear.
  Link(int descriptor, const TlsContext& context);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] bool encrypted() const { return tls_ != nullptr; }

  // One step of the handshake; kOk: it is done.
  Result handshake();

  // kOk: `count` is the number of bytes, at least 1. There is room for two at least.
  Result read(char* place, std::size_t room, std::size_t& count);

  // When the kernel got the first and the last bytes of what was read, on the clock of now(). Later than that, when
  // they were read, where it does not say: for TLS, and for bytes of which only a part was read. Where the kernel has
  // joined packets that waited, it knows the time of the last one only.
  [[nodiscard]] double received_first() const { return received_first_; }
  [[nodiscard]] double received() const { return received_; }
  Result write(const char* bytes, std::size_t size, std::size_t& count);

  // Whether decrypted bytes wait here, which no poll tells of.
  [[nodiscard]] bool has_pending() const { return tls_ != nullptr && SSL_pending(tls_.get()) > 0; }

  // Tells the other side that nothing more will come.
  void finish_writing();

 private:
  struct TlsFree {
    void operator()(SSL* tls) const { SSL_free(tls); }
  };

  Result failed(int code);

  Result receive(char* place, std::size_t room, std::size_t& count);

  int descriptor_;
  double received_first_ = 0;
  double received_ = 0;
  std::unique_ptr<SSL, TlsFree> tls_;
  bool established_ = false;
};

}  // namespace wire
