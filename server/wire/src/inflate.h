// Decompression in steps, so that a message which grows a thousandfold neither takes memory nor holds others up.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <memory>
#include <string_view>

#include "buffer.h"

namespace wire {

enum class Encoding { kIdentity, kGzip, kDeflate };

class Inflater {
 public:
  explicit Inflater(Encoding encoding);
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  enum class Result { kMore, kDone, kCorrupt };

  // Adds at most `most` bytes to `output`, from what remains of the input. kMore: call it again.
  Result step(std::string_view input, Buffer& output, std::size_t most);

 private:
  z_stream stream_{};
  std::size_t taken_ = 0;
};

}  // namespace wire
