#ifndef CAIRN_CORE_UPDATE_REPLACEMENT_UPDATE_H_
#define CAIRN_CORE_UPDATE_REPLACEMENT_UPDATE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"
#include "core/update/update.h"

namespace cairn {

// What sparse and dense updates share: values that replace the base's.
class ReplacementUpdate : public Update {
 public:
  const std::vector<TouchedTensor>& touched() const override {
    return touched_;
  }
  std::string base_digest() const override { return base_digest_; }
  Form form() const override { return Form::kReplacement; }

  absl::Status CheckFinite() const override;
  absl::StatusOr<double> DeltaNorm(absl::string_view tensor,
                                   const ByteSource& base) const override;
  absl::Status ReadTuned(absl::string_view tensor, const ByteSource& base,
                         int64_t first, absl::Span<char> bytes) const override;

 protected:
  ReplacementUpdate(SharedSource file, std::vector<TouchedTensor> touched,
                    std::string base_digest)
      : file_(std::move(file)),
        touched_(std::move(touched)),
        base_digest_(std::move(base_digest)) {}

  // A range of the file that holds packed values of one dtype.
  struct Range {
    int64_t begin = 0;
    int64_t size = 0;
  };

  const ByteSource& file() const { return *file_; }
  // All replacement values of touched()[index]; for CheckFinite().
  virtual Range ValuesOf(size_t /*index*/) const { return {}; }
  // ReadTuned() of touched()[index]; the elements exist, and `base` has all of
  // the tensor's.
  virtual absl::Status ReadRange(size_t index, const ByteSource& base,
                                 int64_t first,
                                 absl::Span<char> bytes) const = 0;

 private:
  const SharedSource file_;
  const std::vector<TouchedTensor> touched_;
  const std::string base_digest_;
};

// OK for a tensor that values can replace: its dtype is F32, F16 or BF16.
// INVALID_ARGUMENT with reason UNSUPPORTED otherwise.
absl::Status CheckReplaceable(absl::string_view tensor, DType dtype);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_REPLACEMENT_UPDATE_H_
