#ifndef CAIRN_MERGE_ENGINE_INPUT_HASH_H_
#define CAIRN_MERGE_ENGINE_INPUT_HASH_H_

#include <memory>
#include <string>

#include "absl/types/span.h"

namespace cairn {

// A hash of stored bytes, in order, by which a changed input is noticed
// (XXH3, 128 bits). Not a cryptographic one.
class InputHash {
 public:
  InputHash();
  ~InputHash();
  InputHash(InputHash&&) noexcept;
  InputHash& operator=(InputHash&&) noexcept;

  void Add(absl::Span<const char> bytes);
  std::string Finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_INPUT_HASH_H_
