#include "grpc_text.h"

#include <array>
#include <cstdint>

namespace wire {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int, 256> kPlaces = [] {
  std::array<int, 256> places{};
  places.fill(-1);
  for (std::size_t place = 0; place < kAlphabet.size(); ++place) {
    places[static_cast<unsigned char>(kAlphabet[place])] = static_cast<int>(place);
  }
  return places;
}();

}  // namespace

std::optional<double> parse_timeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) {
    return std::nullopt;
  }
  double value = 0;
  for (const char digit : text.substr(0, text.size() - 1)) {
    if (digit < '0' || digit > '9') {
      return std::nullopt;
    }
    value = value * 10 + (digit - '0');
  }
  switch (text.back()) {
    case 'H':
      return value * 3600;
    case 'M':
      return value * 60;
    case 'S':
      return value;
    case 'm':
      return value * 1e-3;
    case 'u':
      return value * 1e-6;
    case 'n':
      return value * 1e-9;
    default:
      return std::nullopt;
  }
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte <= 0x7E && character != '%') {
      encoded.push_back(character);
    } else {
      encoded.push_back('%');
      encoded.push_back(kDigits[byte >> 4]);
      encoded.push_back(kDigits[byte & 15]);
    }
  }
  return encoded;
}

std::optional<std::string> base64_decode(std::string_view text) {
  while (!text.empty() && text.back() == '=') {
    text.remove_suffix(1);
  }
  if (text.size() % 4 == 1) {
    return std::nullopt;
  }
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  std::uint32_t collected = 0;
  int bits = 0;
  for (const char character : text) {
    const int place = kPlaces[static_cast<unsigned char>(character)];
    if (place < 0) {
      return std::nullopt;
    }
    collected = (collected << 6) | static_cast<std::uint32_t>(place);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes.push_back(static_cast<char>((collected >> bits) & 0xFF));
    }
  }
  return bytes;
}

std::string base64_encode(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 4 / 3 + 2);
  std::uint32_t collected = 0;
  int bits = 0;
  for (const char byte : bytes) {
    collected = (collected << 8) | static_cast<unsigned char>(byte);
    bits += 8;
    while (bits >= 6) {
      bits -= 6;
      text.push_back(kAlphabet[(collected >> bits) & 63]);
    }
  }
  if (bits > 0) {
    text.push_back(kAlphabet[(collected << (6 - bits)) & 63]);
  }
  return text;
}

ContentType content_type(std::string_view text) {
  constexpr std::string_view kGrpc = "application/grpc";
  if (!text.starts_with(kGrpc)) {
    return ContentType::kNotGrpc;
  }
  const std::string_view rest = text.substr(kGrpc.size());
  if (rest.empty() || rest.front() == ';') {
    return ContentType::kProtobuf;
  }
  if (rest.front() != '+') {
    return ContentType::kNotGrpc;
  }
  const std::string_view format = rest.substr(1, rest.find(';') - 1);
  return format == "proto" ? ContentType::kProtobuf : ContentType::kOtherFormat;
}

}  // namespace wire
