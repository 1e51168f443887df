#ifndef CAIRN_MERGE_METHOD_COUNTER_RANDOM_H_
#define CAIRN_MERGE_METHOD_COUNTER_RANDOM_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace cairn {

// Random numbers that are a function of what they are for, so that they do not
// depend on threads, tiles or order: Philox4x32-10 of element_math.h.

// One block of four words for a counter.
struct PhiloxBlock {
  uint32_t words[4];
};
PhiloxBlock Philox(const uint32_t (&counter)[4], uint64_t key);

// A key for the elements of one tensor of one input of one merge.
uint64_t RandomKey(uint64_t seed, uint64_t input, absl::string_view tensor);

// Fills `out` with the words of elements [first, first + count) of a stream.
void RandomWords(uint64_t key, int64_t first, uint32_t* out, size_t count);

// Which of these words are below `threshold`: bit i % 64 of bits[i / 64] for
// word i. `first` is a multiple of 64; bits past `count` of the last number are
// of no meaning.
void RandomMask(uint64_t key, int64_t first, uint32_t threshold, uint64_t* bits,
                size_t count);

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_COUNTER_RANDOM_H_
