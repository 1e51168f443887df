#ifndef CAIRN_CORE_UPDATE_FINGERPRINT_H_
#define CAIRN_CORE_UPDATE_FINGERPRINT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"
#include "core/update/update.h"

namespace cairn {

// What an update does to one tensor.
struct LayerFeatures {
  std::string tensor;
  double norm = 0;            // Frobenius, of the change
  double base_norm = 0;       // of the base's tensor
  int64_t rank = 0;           // of the factors; 0 when not low-rank
  double leading_share = 0;   // energy in the first singular direction
  double effective_rank = 0;  // exp of the entropy of the energies
};

// An update in about a thousand numbers: what weight screens compare.
struct Fingerprint {
  std::vector<LayerFeatures> layers;  // in the order of touched()
  // Linear in the change and the same for every encoding of it, so that the
  // cosine of two sketches estimates that of the changes: rows and columns of
  // every tensor are hashed with signs into 32 x 32 buckets (a count sketch in
  // both directions; Charikar, Chen and Farach-Colton 2002).
  std::vector<float> sketch;
  int64_t elements = 0;  // looked at for the next two
  int64_t changed = 0;
  int64_t positive = 0;
  // Rows of input embeddings and output heads that change, and the share of
  // their energy in the largest eight. Tables of fewer than 64 rows are not
  // counted.
  int64_t vocabulary_rows = 0;
  double vocabulary_concentration = 0;
  // Mean energy of the largest k of these rows beside that of the next eight,
  // for the k up to four where it is largest; 0 with fewer than 16 rows. Large
  // when a few rows stand out from those that follow.
  double vocabulary_gap = 0;
};

// A tensor of the base.
struct BaseTensor {
  DType dtype = DType::kF32;
  std::unique_ptr<ByteSource> bytes;
};
using OpenTensor =
    std::function<absl::StatusOr<BaseTensor>(const TouchedTensor&)>;

// Reads the whole update once, and the base's tensors once. The update fits
// the base and is finite. Signs and density of a low-rank change are taken
// from 16 rows of each tensor, of others from all elements.
// Factors of more than 256 MiB or of a rank above 256 are given a norm only.
// INVALID_ARGUMENT with a reason when the change does not exist (see
// Update::OpenEffect()), or where reading finds that it is broken or not
// finite.
absl::StatusOr<Fingerprint> TakeFingerprint(const Update& update,
                                            const OpenTensor& open_base);

// Of two sketches; 0 when one of them is zero.
double Cosine(absl::Span<const float> a, absl::Span<const float> b);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_FINGERPRINT_H_
