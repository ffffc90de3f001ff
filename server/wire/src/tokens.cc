#include "tokens.h"

#include <openssl/evp.h>
#include <strings.h>

#include <stdexcept>

namespace wire {
namespace {

constexpr std::size_t kDigestBytes = 32;

// Fetched once: looking an algorithm up by its name takes longer than the digest.
const EVP_MD* sha256() {
  static const EVP_MD* const kAlgorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return kAlgorithm;
}

std::string_view stripped(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace

Tokens::Tokens(const std::vector<std::string>& digests) : digests_(digests.begin(), digests.end()) {
  for (const std::string& digest : digests_) {
    if (digest.size() != kDigestBytes) {
      throw std::invalid_argument("a token's digest has 32 bytes");
    }
  }
}

std::optional<std::string> Tokens::find(std::string_view authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  authorization = stripped(authorization);
  if (authorization.size() < kScheme.size() || strncasecmp(authorization.data(), kScheme.data(), kScheme.size()) != 0) {
    return std::nullopt;
  }
  const std::string_view token = stripped(authorization.substr(kScheme.size()));
  std::string digest(kDigestBytes, '\0');
  unsigned int length = 0;
  const bool computed = EVP_Digest(token.data(), token.size(), reinterpret_cast<unsigned char*>(digest.data()), &length,
                                   sha256(), nullptr) == 1;
  return computed && digests_.contains(digest) ? std::optional(digest) : std::nullopt;
}

}  // namespace wire
