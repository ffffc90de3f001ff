// TLS for connections: certificates, the application protocol, client certificates.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace wire {

using TlsContext = std::shared_ptr<SSL_CTX>;

// A context for TLS 1.2 and 1.3 with HTTP/2.
//
// Args:
//   certificates: PEM, the server's own first.
//   key: PEM, not encrypted.
//   authorities: PEM of those that sign clients' certificates; empty: clients need none.
//
// Throws std::invalid_argument that says what is wrong with them.
TlsContext make_tls_context(const std::string& certificates, const std::string& key, const std::string& authorities);

}  // namespace wire
