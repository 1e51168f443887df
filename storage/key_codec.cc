#include "storage/key_codec.h"

#include "absl/status/status.h"

namespace cairn {
namespace {

// A NUL inside a string is escaped; NUL + kEnd ends the string. kEnd is
// smaller than kEscaped, so that a string sorts before its extensions.
constexpr char kNul = '\0';
constexpr char kEnd = '\x01';
constexpr char kEscaped = '\xff';
constexpr size_t kUintBytes = 8;

absl::Status Broken() {
  return absl::DataLossError("a stored key does not have the expected parts");
}

}  // namespace

KeyWriter& KeyWriter::String(absl::string_view part) {
  for (char c : part) {
    key_.push_back(c);
    if (c == kNul) key_.push_back(kEscaped);
  }
  key_.push_back(kNul);
  key_.push_back(kEnd);
  return *this;
}

KeyWriter& KeyWriter::Uint(uint64_t part) {
  for (int shift = 56; shift >= 0; shift -= 8) {
    key_.push_back(static_cast<char>((part >> shift) & 0xff));
  }
  return *this;
}

absl::StatusOr<std::string> KeyReader::String() {
  std::string out;
  for (size_t i = 0; i + 1 < rest_.size(); ++i) {
    if (rest_[i] != kNul) {
      out.push_back(rest_[i]);
      continue;
    }
    char next = rest_[++i];
    if (next == kEnd) {
      rest_.remove_prefix(i + 1);
      return out;
    }
    if (next != kEscaped) return Broken();
    out.push_back(kNul);
  }
  return Broken();
}

absl::StatusOr<uint64_t> KeyReader::Uint() {
  if (rest_.size() < kUintBytes) return Broken();
  uint64_t out = 0;
  for (size_t i = 0; i < kUintBytes; ++i) {
    out = (out << 8) | static_cast<unsigned char>(rest_[i]);
  }
  rest_.remove_prefix(kUintBytes);
  return out;
}

}  // namespace cairn
