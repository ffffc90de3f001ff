#include "tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <stdexcept>
#include <string_view>

namespace wire {
namespace {

constexpr unsigned char kHttp2[] = "\x02h2";

struct BioFree {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
struct X509Free {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
struct KeyFree {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Bio = std::unique_ptr<BIO, BioFree>;
using Certificate = std::unique_ptr<X509, X509Free>;
using Key = std::unique_ptr<EVP_PKEY, KeyFree>;

[[noreturn]] void refuse(const std::string& what) {
  char reason[256] = "no PEM text of that kind was found";
  if (const unsigned long code = ERR_peek_last_error(); code != 0 && ERR_GET_REASON(code) != PEM_R_NO_START_LINE) {
    ERR_error_string_n(code, reason, sizeof reason);
  }
  ERR_clear_error();
  throw std::invalid_argument(what + ": " + reason);
}

Bio text_of(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

Certificate next_certificate(BIO* text) {
  return Certificate(PEM_read_bio_X509(text, nullptr, nullptr, nullptr));
}

int no_password(char*, int, int, void*) {
  return 0;
}

int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* length, const unsigned char* offered,
                    unsigned int offered_length, void*) {
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, length, kHttp2, sizeof kHttp2 - 1, offered, offered_length) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

void use_certificates(SSL_CTX* context, const std::string& pem) {
  const Bio text = text_of(pem);
  const Certificate own = next_certificate(text.get());
  if (!own || SSL_CTX_use_certificate(context, own.get()) != 1) {
    refuse("the certificate cannot be used");
  }
  while (Certificate link = next_certificate(text.get())) {
    if (SSL_CTX_add0_chain_cert(context, link.get()) != 1) {
      refuse("the certificate's chain cannot be used");
    }
    static_cast<void>(link.release());  // it is the context's now
  }
  ERR_clear_error();  // the end of the text
}

void use_authorities(SSL_CTX* context, const std::string& pem) {
  const Bio text = text_of(pem);
  int count = 0;
  for (; const Certificate authority = next_certificate(text.get()); ++count) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      refuse("an authority for clients cannot be used");
    }
  }
  if (count == 0) {
    refuse("the authorities for clients cannot be used");
  }
  ERR_clear_error();
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
}

}  // namespace

TlsContext make_tls_context(const std::string& certificates, const std::string& key, const std::string& authorities) {
  ERR_clear_error();
  TlsContext context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (!context) {
    refuse("OpenSSL has no TLS");
  }
  SSL_CTX* raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  // HTTP/2 forbids TLS 1.2's other ciphers (RFC 9113, appendix A).
  SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20");
  SSL_CTX_set_options(raw, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(raw, choose_protocol, nullptr);
  static constexpr unsigned char kName[] = "mlpserve";
  SSL_CTX_set_session_id_context(raw, kName, sizeof kName - 1);
  use_certificates(raw, certificates);
  const Bio text = text_of(key);
  const Key parsed(PEM_read_bio_PrivateKey(text.get(), nullptr, no_password, nullptr));
  if (!parsed || SSL_CTX_use_PrivateKey(raw, parsed.get()) != 1 || SSL_CTX_check_private_key(raw) != 1) {
    refuse("the private key cannot be used with the certificate");
  }
  if (!authorities.empty()) {
    use_authorities(raw, authorities);
  }
  return context;
}

}  // namespace wire
