// Bytes that grow without being cleared first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace wire {

class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { std::free(data_); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  [[nodiscard]] const char* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::string_view view() const { return {data_, size_}; }

  void reserve(std::size_t capacity) {
    if (capacity > capacity_) {
      void* grown = std::realloc(data_, capacity);
      if (grown == nullptr) {
        throw std::bad_alloc();
      }
      data_ = static_cast<char*>(grown);
      capacity_ = capacity;
    }
  }

  // Makes the buffer longer; returns where its new bytes begin.
  char* extend(std::size_t count) {
    if (size_ + count > capacity_) {
      reserve(std::max(size_ + count, capacity_ * 2));
    }
    char* place = data_ + size_;
    size_ += count;
    return place;
  }

  void append(const void* bytes, std::size_t count) {
    if (count != 0) {
      std::memcpy(extend(count), bytes, count);
    }
  }
  void append(std::string_view bytes) { append(bytes.data(), bytes.size()); }

  // Drops bytes at the end.
  void shrink(std::size_t count) { size_ -= count; }

  // Drops bytes at the beginning.
  void consume(std::size_t count) {
    size_ -= count;
    std::memmove(data_, data_ + count, size_);
  }

  // Empties it; memory beyond `kept` bytes is given back.
  void clear(std::size_t kept) {
    size_ = 0;
    if (capacity_ > kept) {
      std::free(data_);
      data_ = nullptr;
      capacity_ = 0;
    }
  }

  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace wire
