// gRPC's status codes, those that the wire itself answers with.
#pragma once

namespace wire {

enum Status : int {
  kOk = 0,
  kDeadlineExceeded = 4,
  kResourceExhausted = 8,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kUnauthenticated = 16,
};

}  // namespace wire
