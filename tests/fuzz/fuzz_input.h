#ifndef CAIRN_TESTS_FUZZ_FUZZ_INPUT_H_
#define CAIRN_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

namespace cairn::testing {

// Takes an input apart: whatever was asked for past its end is zero or empty.
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size)
      : left_(reinterpret_cast<const char*>(data), size) {}

  uint8_t Byte() {
    const std::string byte = Bytes(1);
    return byte.empty() ? 0 : static_cast<uint8_t>(byte[0]);
  }
  // Two bytes, the low one first.
  size_t Number() {
    const size_t low = Byte();
    return low + size_t{Byte()} * 256;
  }
  // At most so many bytes.
  std::string Bytes(size_t count) {
    const size_t taken = std::min(count, left_.size() - at_);
    at_ += taken;
    return left_.substr(at_ - taken, taken);
  }
  std::string Rest() { return Bytes(left_.size()); }

 private:
  const std::string left_;
  size_t at_ = 0;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_FUZZ_FUZZ_INPUT_H_
