#ifndef CAIRN_CORE_DELTA_DELTA_PACK_H_
#define CAIRN_CORE_DELTA_DELTA_PACK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/v1/delta.pb.h"
#include "core/codec/delta_codec.h"
#include "core/delta/low_rank_steps.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/safetensors.h"

namespace cairn {

// Tensors are coded in pieces of this many bytes: what a thread does at a time.
inline constexpr int64_t kDeltaPieceBytes = 4 << 20;

// How the codec sees elements of a dtype.
ElementForm FormOf(DType dtype);

// A delta between two releases, opened for reading: one file that holds the
// coded pieces of every tensor that changed and the headers of the safetensors
// files, so that it and the older release give every byte of the newer one.
// README.md has the form. Opening reads the index alone and checks that every
// length fits; pieces are checked as they are decoded, and what they make is
// to be checked by digest. Thread-safe.
class DeltaPack {
 public:
  // DATA_LOSS when the file is no delta or its index does not fit it.
  static absl::StatusOr<DeltaPack> Open(SharedSource file);

  const std::string& from_digest() const { return index_.from_digest(); }
  const std::string& to_digest() const { return index_.to_digest(); }
  // The header of a safetensors file of the newer release; null for others.
  const SafetensorsHeader* FindHeader(absl::string_view path) const;
  // Size of that file, which is in the delta.
  int64_t FileSize(absl::string_view path) const;
  // The first bytes of that file.
  const std::string& HeaderBytes(absl::string_view path) const;
  // What is known of a tensor; null for one that did not change.
  const v1::DeltaTensor* Find(absl::string_view tensor) const;

  // What merges did to a tensor that Find() knows: what its pieces are coded
  // against is what they make of the older release's tensor. Empty for most.
  // DATA_LOSS when the factors are damaged.
  absl::StatusOr<LowRankSteps> ReadSteps(const v1::DeltaTensor& tensor) const;

  // Fills `out` with piece `piece` of a tensor, [piece * kDeltaPieceBytes, +
  // out.size()). `base` has the same bytes of the older release's tensor
  // (ReadCounterpart()), after ApplySteps() where there are steps, or zeros
  // where it is new. `coded` is scratch space. DATA_LOSS when the piece is
  // damaged; `out` then holds rubbish.
  absl::Status DecodePiece(const v1::DeltaTensor& tensor, int64_t piece,
                           DType dtype, absl::Span<const char> base,
                           absl::Span<char> out, DeltaDecoder& decoder,
                           std::string& coded) const;

 private:
  absl::Status IndexFiles();
  absl::Status IndexTensors(int64_t end);

  SharedSource file_;
  v1::DeltaIndex index_;
  std::map<std::string, SafetensorsHeader, std::less<>> headers_;
  std::map<std::string, int, std::less<>> files_;
  // By tensor: its entry and where its factors and pieces begin.
  struct Place {
    int entry = 0;
    std::vector<int64_t> shape = {};
    int64_t steps_begin = 0;
    int64_t steps_bytes = 0;
    std::vector<int64_t> piece_begins = {};
  };
  std::map<std::string, Place, std::less<>> tensors_;
};

// A file that was rebuilt, but for these tensors: damaged in the delta, or not
// there as they should be in the older release.
struct RebuiltFile {
  std::vector<TensorEntry> missing;
};

// Told how many more bytes of the file are done; from any thread.
using RebuildProgress = std::function<void(int64_t bytes)>;

// Writes the safetensors file `path` of the newer release to `out`, replacing
// what is there, from the delta and the older release `from`, on `threads`
// threads, each with some 12 MiB. The caller fills what is missing, checks the
// file's digest and makes it durable. NOT_FOUND when the delta has no such
// file.
absl::StatusOr<RebuiltFile> RebuildFile(const DeltaPack& delta,
                                        absl::string_view path,
                                        const Checkpoint& from,
                                        const std::string& out, int threads,
                                        const RebuildProgress& progress);

}  // namespace cairn

#endif  // CAIRN_CORE_DELTA_DELTA_PACK_H_
