#include "inflate.h"

#include <new>

namespace wire {

Inflater::Inflater(Encoding encoding) {
  constexpr int kWindow = 15;
  constexpr int kGzip = 16;
  if (inflateInit2(&stream_, encoding == Encoding::kGzip ? kWindow + kGzip : kWindow) != Z_OK) {
    throw std::bad_alloc();
  }
}

Inflater::~Inflater() {
  inflateEnd(&stream_);
}

Inflater::Result Inflater::step(std::string_view input, Buffer& output, std::size_t most) {
  // zlib's interface predates const.
  stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data() + taken_));
  stream_.avail_in = static_cast<uInt>(input.size() - taken_);
  stream_.next_out = reinterpret_cast<Bytef*>(output.extend(most));
  stream_.avail_out = static_cast<uInt>(most);
  const int code = inflate(&stream_, Z_NO_FLUSH);
  taken_ = input.size() - stream_.avail_in;
  output.shrink(stream_.avail_out);
  if (code == Z_STREAM_END) {
    return taken_ == input.size() ? Result::kDone : Result::kCorrupt;
  }
  // Without an end, and with room left for output, the input is cut off.
  return code == Z_OK && stream_.avail_out == 0 ? Result::kMore : Result::kCorrupt;
}

}  // namespace wire
