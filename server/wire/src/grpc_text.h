// The small texts of gRPC over HTTP/2: timeouts, statuses, base64, content types.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace wire {

// Seconds of a grpc-timeout such as "100m"; nothing if it is not one.
std::optional<double> parse_timeout(std::string_view text);

// A text as a grpc-message header has it.
std::string percent_encode(std::string_view text);

// The bytes of a -bin header, padded or not; nothing if it is not base64.
std::optional<std::string> base64_decode(std::string_view text);

// Bytes as a -bin header has them, without padding.
std::string base64_encode(std::string_view bytes);

enum class ContentType { kNotGrpc, kOtherFormat, kProtobuf };

// What a content-type header says of the messages.
ContentType content_type(std::string_view text);

}  // namespace wire
