// Bearer tokens, known by their SHA-256 only.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace wire {

class Tokens {
 public:
  // Args:
  //   digests: 32 bytes each. Throws std::invalid_argument for others.
  explicit Tokens(const std::vector<std::string>& digests);

  // The digest of the token in an authorization header; nothing if it is none of these.
  //
  // It is looked up in a table, whose time says something of digests at most, and nothing of tokens.
  [[nodiscard]] std::optional<std::string> find(std::string_view authorization) const;

 private:
  std::unordered_set<std::string> digests_;
};

}  // namespace wire
