#ifndef CAIRN_CORE_UPDATE_UPDATE_H_
#define CAIRN_CORE_UPDATE_UPDATE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/v1/common.pb.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/base_model.h"
#include "core/update/tensor_effect.h"

namespace cairn {

inline constexpr char kAdapterConfigFile[] = "adapter_config.json";
inline constexpr char kAdapterWeightsFile[] = "adapter_model.safetensors";
inline constexpr char kUpdateFile[] = "cairn-update.safetensors";
// Beside it where it names a mask.
inline constexpr char kMaskFile[] = "cairn-mask.safetensors";

// A tensor of the base that an update changes.
struct TouchedTensor {
  std::string name;            // as in the base
  std::vector<int64_t> shape;  // that the base's tensor must have
  std::optional<DType> dtype;  // likewise; none: any numeric dtype fits
};

// Factors of one tensor of a LoRA. tau = scale * B * A, transposed when
// `transposed` (the base then stores [in, out]).
struct LoraFactors {
  int64_t rank = 0;
  int64_t in = 0;
  int64_t out = 0;
  std::vector<float> a;  // [rank, in], row-major
  std::vector<float> b;  // [out, rank], row-major
  double scale = 1.0;
  bool transposed = false;
};

// tau of one tensor of an update that carries differences. Thread-safe.
class ChangeReader {
 public:
  virtual ~ChangeReader() = default;
  // Elements [first, first + out.size()) of the flattened tensor. Each element
  // is the same whatever range it is read in, on every machine.
  virtual absl::Status Read(int64_t first, absl::Span<float> out) const = 0;
};

class UpdateStatistics;

// One proposed change against one base, opened for reading. Opening has done
// every check that needs no base: the files are whole, of a known format and
// version, within limits, and each tensor in them is used. Thread-safe; holds
// the files open.
class Update {
 public:
  Update();
  virtual ~Update();

  virtual v1::Encoding::Kind encoding() const = 0;
  // What it carries, and so which of the readers below it has, besides
  // OpenEffect().
  enum class Form {
    kAdapter,      // ReadFactors() for some tensors
    kReplacement,  // ReadTuned(): the tuned values themselves
    kDifference,   // OpenChange(); ReadTuned() rounds base + tau
  };
  virtual Form form() const = 0;
  // Sorted by name, unique, never empty.
  virtual const std::vector<TouchedTensor>& touched() const = 0;
  // Digest of the base that the files name ("sha256:..."); empty for PEFT.
  virtual std::string base_digest() const = 0;

  // Reads every value that can be known without the base, which is all but
  // those of lossless dense updates: TakeFingerprint() looks at them.
  // INVALID_ARGUMENT with reason NON_FINITE naming the tensor that holds a NaN
  // or infinity.
  virtual absl::Status CheckFinite() const = 0;

  // Frobenius norm of tau for one touched tensor that has factors or
  // replacement values; of others ChangeNorm() tells it. `base` holds the
  // packed bytes of the base's tensor (not read for factors).
  virtual absl::StatusOr<double> DeltaNorm(absl::string_view tensor,
                                           const ByteSource& base) const = 0;

  // The factors of a touched tensor whose change is one low-rank product.
  // FAILED_PRECONDITION otherwise.
  virtual absl::StatusOr<LoraFactors> ReadFactors(
      absl::string_view tensor) const;
  // Bytes that ReadFactors() puts in memory for a touched tensor; 0 for one
  // that has no factors. Known from headers alone.
  virtual int64_t FactorBytes(absl::string_view /*tensor*/) const { return 0; }

  // Differences only: tau of a touched tensor. Refers to the update.
  // FAILED_PRECONDITION for other forms.
  virtual absl::StatusOr<std::unique_ptr<ChangeReader>> OpenChange(
      absl::string_view tensor) const;

  // Not for adapters (FAILED_PRECONDITION): packed bytes of the tuned tensor,
  // from element `first` on. `base` holds those of the base's tensor.
  virtual absl::Status ReadTuned(absl::string_view tensor,
                                 const ByteSource& base, int64_t first,
                                 absl::Span<char> bytes) const;

  // How the change of a touched tensor is kept, in a few words: for people.
  virtual std::string Describe(absl::string_view /*tensor*/) const {
    return "";
  }

  // What the update does to a touched tensor, told for any encoding. `base`
  // is the base's tensor; it is read now where the change depends on all of
  // it (DoRA). The update and the base's bytes outlive the result.
  // INVALID_ARGUMENT with reason NON_FINITE when the change does not exist.
  virtual absl::StatusOr<Effect> OpenEffect(absl::string_view tensor,
                                            const BaseValues& base) const;
  // Bytes that OpenEffect() puts in memory; known from headers alone.
  virtual int64_t EffectBytes(absl::string_view tensor) const {
    return FactorBytes(tensor);
  }

  // The touched tensor of that name, or null.
  const TouchedTensor* Find(absl::string_view tensor) const;

  // What its author measured beside it; null when nothing came along.
  const UpdateStatistics* statistics() const { return statistics_.get(); }
  void Attach(std::unique_ptr<const UpdateStatistics> statistics);

 private:
  std::unique_ptr<const UpdateStatistics> statistics_;
};

// Opens an update by its files, whichever encoding they have: a PEFT adapter
// (adapter_config.json, adapter_model.safetensors) or cairn-update.safetensors;
// with cairn-statistics.safetensors, if that is beside them. Other files are
// not looked at. `base` is the base it was made on; some
// adapters (IA3, experts, trained tokens) do not say what they change without
// it, then FAILED_PRECONDITION. INVALID_ARGUMENT with reason UNKNOWN_FORMAT,
// UNSUPPORTED, MALFORMED_FILE, LIMIT_EXCEEDED or, against the base,
// UNKNOWN_TENSOR and SHAPE_MISMATCH; the message names file, tensor and key.
absl::StatusOr<std::unique_ptr<Update>> OpenUpdate(
    const FileMap& files, const BaseModel* base = nullptr);
absl::StatusOr<std::unique_ptr<Update>> OpenUpdateDirectory(
    const std::string& directory, const BaseModel* base = nullptr);
// The digest of the base that the files name; empty when they name none or
// cannot be read.
std::string BaseDigestOf(const FileMap& files);

// True for the files that make up an update; anything else beside them is
// not pushed and not part of the digest.
bool IsUpdateFile(absl::string_view path);

// Whether the update fits a base: INVALID_ARGUMENT with UNKNOWN_TENSOR (the
// message lists the nearest names), SHAPE_MISMATCH or DTYPE_MISMATCH, or
// FAILED_PRECONDITION with BASE_DIGEST_MISMATCH when the files name another
// base than `base_digest`. Details name the tensor.
absl::Status CheckAgainstBase(const Update& update,
                              const v1::TensorManifest& base,
                              absl::string_view base_digest);

// True for input embeddings and output heads, by the names that architectures
// give them.
bool IsEmbeddingOrHead(absl::string_view tensor);
// True when a touched tensor is one.
bool TouchesEmbeddingsOrHead(const Update& update);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_UPDATE_H_
