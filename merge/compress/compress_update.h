#ifndef CAIRN_MERGE_COMPRESS_COMPRESS_UPDATE_H_
#define CAIRN_MERGE_COMPRESS_COMPRESS_UPDATE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "core/update/change_values.h"
#include "core/update/position_mask.h"
#include "merge/compress/change_source.h"

namespace cairn {

// Ways to keep a change in fewer bytes than it has.
enum class Compression {
  kSparse,   // the largest differences, listed
  kTernary,  // signs of each matrix's largest, and one scale (ComPEFT,
             // arXiv:2311.13171; the scale is the mean of what it stands for,
             // which is nearest by squares)
  kBit,      // signs of all of a matrix, and scales (BitDelta,
             // arXiv:2402.10193, before its scales are tuned)
  kInt8,     // integers and a scale for each group
  kInt4,
  kLowRank,  // two factors of each matrix, and the largest of the rest, listed
};
enum class SignScale { kTensor, kRow };

struct CompressOptions {
  std::string base_digest = "";  // "sha256:..."
  Compression kind = Compression::kSparse;
  // kSparse: the share of all elements of the base that is kept; kTernary: of
  // each matrix; kLowRank: of each matrix's rest, 0 for none of it.
  double density = 1.0;
  int64_t base_elements = 0;  // what kSparse takes its share of
  int64_t rank = 16;
  int64_t group = 128;  // elements that share a scale; 0: all of a tensor
  SignScale sign_scale = SignScale::kTensor;
  // Of listed differences, and of factors where it is a float.
  ValueForm values = ValueForm::kF32;
  // kSparse: lists no positions of its own but has values for those of this
  // mask, which outlives the call; "sha256:..." of its file. `density` is then
  // the mask's.
  const PositionMask* mask = nullptr;
  std::string mask_digest = "";
  // Tensors that are coded at once; the bytes do not depend on it. Each takes
  // some buffers, and files without a name beside the update.
  int threads = 1;
  // Called now and then with the elements done and all elements, by one thread
  // at a time.
  std::function<void(int64_t, int64_t)> progress = nullptr;
};

// Writes the change as an update's file, tile by tile: memory does not grow
// with the model but for factors. What is no matrix, or has fewer than 1,024
// elements, is kept in float32 whatever the kind, but kSparse: it takes few
// bytes and carries much. INVALID_ARGUMENT for options that contradict, or with
// reason NON_FINITE; FAILED_PRECONDITION when nothing changed.
absl::Status CompressChange(const ChangeSource& source, const std::string& path,
                            const CompressOptions& options);

// Writes the positions that kSparse would list as a mask, for this update and
// those to come.
absl::Status WriteMask(const ChangeSource& source, const std::string& path,
                       const CompressOptions& options);

}  // namespace cairn

#endif  // CAIRN_MERGE_COMPRESS_COMPRESS_UPDATE_H_
