#include "core/update/dense_update.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/update/replacement_update.h"

namespace cairn {
namespace {

class DenseUpdate : public ReplacementUpdate {
 public:
  DenseUpdate(SharedSource file, std::vector<TouchedTensor> touched,
              std::vector<TensorEntry> entries, std::string base_digest)
      : ReplacementUpdate(std::move(file), std::move(touched),
                          std::move(base_digest)),
        entries_(std::move(entries)) {}

  v1::Encoding::Kind encoding() const override { return v1::Encoding::DENSE; }

 private:
  Range ValuesOf(size_t index) const override {
    const TensorEntry& entry = entries_[index];
    return {entry.begin, entry.end - entry.begin};
  }

  absl::Status ReadRange(size_t index, const ByteSource& /*base*/,
                         int64_t first, absl::Span<char> bytes) const override {
    const TensorEntry& entry = entries_[index];
    return file().ReadAt(entry.begin + first * DTypeBits(entry.dtype) / 8,
                         bytes);
  }

  const std::vector<TensorEntry> entries_;  // in the order of touched()
};

}  // namespace

absl::StatusOr<std::unique_ptr<Update>> OpenDenseUpdate(
    SharedSource file, const SafetensorsHeader& header) {
  std::vector<TensorEntry> entries = header.tensors();
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  std::vector<TouchedTensor> touched;
  for (const TensorEntry& entry : entries) {
    CAIRN_RETURN_IF_ERROR(CheckReplaceable(entry.name, entry.dtype));
    touched.push_back(
        {.name = entry.name, .shape = entry.shape, .dtype = entry.dtype});
  }
  return std::make_unique<DenseUpdate>(std::move(file), std::move(touched),
                                       std::move(entries),
                                       header.metadata().at("cairn.base"));
}

}  // namespace cairn
