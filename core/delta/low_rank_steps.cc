#include "core/delta/low_rank_steps.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/tensor/float_kernels.h"

namespace cairn {
namespace {

// Elements computed at a time; bounds the memory beside the factors.
constexpr int64_t kTileElements = 1 << 16;
// Bytes of factors that are coded as one block.
constexpr size_t kFactorBlockBytes = size_t{1} << 20;

absl::Status Broken(const v1::DeltaTensor& tensor, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("delta: the factors of tensor ", tensor.name(), " ", what));
}

size_t FactorFloats(int64_t rank, absl::Span<const int64_t> shape) {
  return static_cast<size_t>(rank * (shape[0] + shape[1]));
}

// Whether terms of these ranks are short enough to be worth it, and so that no
// product overflows.
class RankLimit {
 public:
  explicit RankLimit(absl::Span<const int64_t> shape)
      : floats_left_(shape[0] * shape[1] / 4),
        floats_a_rank_(shape[0] + shape[1]) {}

  bool Take(int64_t rank) {
    if (rank < 1 || rank > floats_left_ / floats_a_rank_) return false;
    floats_left_ -= rank * floats_a_rank_;
    return true;
  }

 private:
  int64_t floats_left_;
  const int64_t floats_a_rank_;
};

bool HasFactors(DType dtype, absl::Span<const int64_t> shape) {
  return IsNumeric(dtype) && shape.size() == 2 && shape[0] > 0 && shape[1] > 0;
}

void AppendBlocks(absl::Span<const char> bytes, PlaneEncoder& encoder,
                  std::string& out) {
  while (!bytes.empty()) {
    const absl::Span<const char> block = bytes.subspan(0, kFactorBlockBytes);
    const size_t length_at = out.size();
    out.append(4, '\0');
    encoder.Encode(block, sizeof(float), out);
    const size_t length = out.size() - length_at - 4;
    for (size_t i = 0; i < 4; ++i) {
      out[length_at + i] = static_cast<char>(length >> (8 * i));
    }
    bytes.remove_prefix(block.size());
  }
}

// Cuts the blocks that `out` was coded as off the front of `coded`.
absl::Status TakeBlocks(PlaneDecoder& decoder, absl::string_view& coded,
                        absl::Span<char> out) {
  while (!out.empty()) {
    const absl::Span<char> block = out.subspan(0, kFactorBlockBytes);
    if (coded.size() < 4) return absl::DataLossError("end within a length");
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) {
      length |= size_t{static_cast<uint8_t>(coded[i])} << (8 * i);
    }
    coded.remove_prefix(4);
    if (length > coded.size()) return absl::DataLossError("end within a block");
    CAIRN_RETURN_IF_ERROR(decoder.Decode(coded.substr(0, length), block));
    coded.remove_prefix(length);
    out.remove_prefix(block.size());
  }
  return absl::OkStatus();
}

absl::Span<const char> BytesOf(const std::vector<float>& floats) {
  return {reinterpret_cast<const char*>(floats.data()),
          floats.size() * sizeof(float)};
}

absl::Span<char> BytesOf(std::vector<float>& floats) {
  return {reinterpret_cast<char*>(floats.data()),
          floats.size() * sizeof(float)};
}

}  // namespace

bool IsUsable(const LowRankSteps& steps, DType dtype,
              absl::Span<const int64_t> shape) {
  if (!HasFactors(dtype, shape)) return false;
  RankLimit limit(shape);
  bool has_terms = false;
  for (const auto& step : steps) {
    for (const LowRankTerm& term : step) {
      has_terms = true;
      if (!limit.Take(term.rank) ||
          term.left.size() != static_cast<size_t>(shape[0] * term.rank) ||
          term.right.size() != static_cast<size_t>(term.rank * shape[1])) {
        return false;
      }
    }
  }
  return has_terms;
}

void ApplySteps(const LowRankSteps& steps, DType dtype, int64_t columns,
                int64_t first, absl::Span<char> bytes) {
  const auto width = static_cast<size_t>(DTypeBits(dtype) / 8);
  std::vector<float> before(
      std::min(static_cast<size_t>(kTileElements), bytes.size() / width));
  std::vector<float> sum(before.size());
  while (!bytes.empty()) {
    const size_t count = std::min(before.size(), bytes.size() / width);
    const absl::Span<char> tile = bytes.subspan(0, count * width);
    const absl::Span<float> old(before.data(), count);
    const absl::Span<float> made(sum.data(), count);
    for (const auto& step : steps) {
      std::fill(made.begin(), made.end(), 0.0f);
      for (const LowRankTerm& term : step) {
        AddLowRank({.left = term.left.data(),
                    .right = term.right.data(),
                    .rank = term.rank,
                    .columns = columns,
                    .scale = term.scale},
                   term.coefficient, first, made);
      }
      ToFloats(dtype, tile, old);
      AddScaled(1.0f, old, made);
      FromFloats(dtype, made, tile);
    }
    first += static_cast<int64_t>(count);
    bytes.remove_prefix(tile.size());
  }
}

std::string EncodeSteps(const LowRankSteps& steps, PlaneEncoder& encoder,
                        v1::DeltaTensor& tensor) {
  std::string coded;
  for (const auto& step : steps) {
    v1::DeltaStep& described = *tensor.add_steps();
    for (const LowRankTerm& term : step) {
      v1::DeltaTerm& one = *described.add_terms();
      one.set_coefficient(term.coefficient);
      one.set_scale(term.scale);
      one.set_rank(term.rank);
      const size_t begin = coded.size();
      AppendBlocks(BytesOf(term.left), encoder, coded);
      AppendBlocks(BytesOf(term.right), encoder, coded);
      one.set_coded_bytes(static_cast<int64_t>(coded.size() - begin));
    }
  }
  return coded;
}

absl::StatusOr<int64_t> CodedStepBytes(const v1::DeltaTensor& tensor,
                                       DType dtype,
                                       absl::Span<const int64_t> shape) {
  if (tensor.steps().empty()) return 0;
  if (tensor.is_new() || !HasFactors(dtype, shape)) {
    return Broken(tensor, "belong to a tensor that can have none");
  }
  RankLimit limit(shape);
  int64_t total = 0;
  for (const v1::DeltaStep& step : tensor.steps()) {
    if (step.terms().empty()) return Broken(tensor, "lack those of a step");
    for (const v1::DeltaTerm& term : step.terms()) {
      if (!limit.Take(term.rank())) {
        return Broken(tensor, absl::StrCat("have a rank of ", term.rank(),
                                           ", too much for its shape"));
      }
      // A block is never coded as more than twice its length.
      const auto coded_max =
          static_cast<int64_t>(8 * FactorFloats(term.rank(), shape) + 256);
      if (term.coded_bytes() < 0 || term.coded_bytes() > coded_max) {
        return Broken(tensor,
                      absl::StrCat("take ", term.coded_bytes(), " bytes"));
      }
      total += term.coded_bytes();
    }
  }
  return total;
}

absl::StatusOr<LowRankSteps> DecodeSteps(const v1::DeltaTensor& tensor,
                                         absl::Span<const int64_t> shape,
                                         absl::string_view coded) {
  PlaneDecoder decoder;
  LowRankSteps steps;
  for (const v1::DeltaStep& step : tensor.steps()) {
    std::vector<LowRankTerm>& terms = steps.emplace_back();
    for (const v1::DeltaTerm& described : step.terms()) {
      LowRankTerm& term = terms.emplace_back();
      term.coefficient = described.coefficient();
      term.scale = described.scale();
      term.rank = described.rank();
      term.left.resize(static_cast<size_t>(shape[0] * term.rank));
      term.right.resize(static_cast<size_t>(term.rank * shape[1]));
      const auto length = static_cast<size_t>(described.coded_bytes());
      if (length > coded.size()) return Broken(tensor, "are cut");
      absl::string_view mine = coded.substr(0, length);
      coded.remove_prefix(length);
      absl::Status taken = TakeBlocks(decoder, mine, BytesOf(term.left));
      if (taken.ok()) taken = TakeBlocks(decoder, mine, BytesOf(term.right));
      if (!taken.ok()) return Broken(tensor, taken.message());
      if (!mine.empty()) return Broken(tensor, "go on after their end");
    }
  }
  if (!coded.empty()) return Broken(tensor, "are more than its terms");
  return steps;
}

}  // namespace cairn
