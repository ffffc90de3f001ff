// Bearer tokens, known by their SHA-256 only.
#pragma once

#include <memory>
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

  // Whether an authorization header has one of the tokens.
  //
  // The digest is looked up in a table, whose time says something of digests at most, and nothing of tokens.
  [[nodiscard]] bool accept(std::string_view authorization) const;

 private:
  std::unordered_set<std::string> digests_;
};

}  // namespace wire
