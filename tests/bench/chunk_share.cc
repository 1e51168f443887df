// What content-defined chunks would save where a tensor changed: the bytes in
// chunks that the older tensor does not have, beside the size of a difference
// against it, by the kind of update. Tensors that did not change share their
// blob anyway.
#include <algorithm>
#include <array>
#include <cstdio>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/base/digest.h"
#include "core/codec/delta_codec.h"
#include "core/delta/delta_pack.h"
#include "tests/bench/sample_updates.h"

namespace cairn {
namespace {

constexpr size_t kChunkBytesMin = 4 << 10;
constexpr size_t kChunkBytesLargest = 64 << 10;
// One position in 16 Ki ends a chunk.
constexpr uint64_t kCutMask = ((uint64_t{1} << 14) - 1) << 32;

// Chunks end where a gear hash of the last 64 bytes says so.
class Chunker {
 public:
  Chunker() {
    std::mt19937_64 random(1);
    for (uint64_t& value : gear_) value = random();
  }
  std::vector<absl::string_view> Cut(absl::string_view bytes) const {
    std::vector<absl::string_view> chunks;
    while (!bytes.empty()) {
      const size_t size = FirstCut(bytes);
      chunks.push_back(bytes.substr(0, size));
      bytes.remove_prefix(size);
    }
    return chunks;
  }

 private:
  size_t FirstCut(absl::string_view bytes) const {
    const size_t end = std::min(bytes.size(), kChunkBytesLargest);
    uint64_t hash = 0;
    for (size_t i = 0; i < end; ++i) {
      hash = (hash << 1) + gear_[static_cast<uint8_t>(bytes[i])];
      if (i >= kChunkBytesMin && (hash & kCutMask) == 0) return i + 1;
    }
    return end;
  }

  std::array<uint64_t, 256> gear_;
};

size_t NewBytes(const Chunker& chunker, const std::string& base,
                const std::string& tuned) {
  std::set<std::string> known;
  for (absl::string_view chunk : chunker.Cut(base)) {
    known.insert(Digest::Of(chunk).hex());
  }
  size_t bytes = 0;
  for (absl::string_view chunk : chunker.Cut(tuned)) {
    if (known.insert(Digest::Of(chunk).hex()).second) bytes += chunk.size();
  }
  return bytes;
}

// What the base lacks counts as zeros, as in a delta.
size_t DeltaBytes(std::string base, const std::string& tuned,
                  const ElementForm& form) {
  base.resize(tuned.size());
  DeltaEncoder encoder;
  size_t bytes = 0;
  for (size_t at = 0; at < tuned.size(); at += kDeltaBlockBytesMax) {
    std::string block;
    encoder.Encode(
        absl::Span<const char>(base).subspan(at, kDeltaBlockBytesMax),
        absl::Span<const char>(tuned).subspan(at, kDeltaBlockBytesMax), form,
        block);
    bytes += block.size();
  }
  return bytes;
}

// Rows after the last, as for new words of a vocabulary.
Update MoreRows(double share) {
  return [share](Matrix& matrix, Normals& normals) {
    if (matrix.rows == 1) return;
    matrix.rows +=
        static_cast<size_t>(share * static_cast<double>(matrix.rows));
    const float scale = 0.02f;
    while (matrix.values.size() < matrix.rows * matrix.columns) {
      matrix.values.push_back(scale * normals.Next());
    }
  };
}

void Run(const char* kind, const Weights& weights, const Update& update) {
  Normals normals(kUpdateSeed);
  const Chunker chunker;
  double plain = 0, chunked = 0, coded = 0;
  for (const Matrix& matrix : weights) {
    if (matrix.rows == 1) continue;
    Matrix tuned = matrix;
    update(tuned, normals);
    const std::string before = Packed(matrix);
    const std::string after = Packed(tuned);
    plain += static_cast<double>(after.size());
    chunked += static_cast<double>(NewBytes(chunker, before, after));
    coded += static_cast<double>(
        DeltaBytes(before, after, FormOf(matrix.dtype)));
  }
  std::printf("%-40s %8.2f %% %8.2f %%\n", kind, 100 * chunked / plain,
              100 * coded / plain);
  std::fflush(stdout);
}

int Main() {
  Normals normals(kWeightSeed);
  const Weights weights = MakeWeights(DType::kBF16, normals);
  std::printf("%-40s %10s %10s\n", "BF16, bytes to keep of changed tensors",
              "chunks", "difference");
  Run("fine-tuned, relative change 0.1 %", weights, Dense(0.001f));
  Run("fine-tuned, relative change 1 %", weights, Dense(0.01f));
  Run("LoRA of rank 16, 0.5 %", weights, LowRank(0.005f));
  Run("sparse, 0.5 % of the weights", weights, Sparse(0.005));
  Run("sparse, 0.01 % of the weights", weights, Sparse(0.0001));
  Run("10 % of the rows", weights, Rows(0.1));
  Run("1 % of the rows", weights, Rows(0.01));
  Run("2 % more rows", weights, MoreRows(0.02));
  return 0;
}

}  // namespace
}  // namespace cairn

int main() { return cairn::Main(); }
