#include "merge/method/sparsifier.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "merge/method/bit_mask.h"
#include "merge/method/counter_random.h"
#include "merge/method/rank_window.h"
#include "merge/method/row_ranks.h"
#include "merge/method/tile_math.h"

namespace cairn {

void Sparsifier::ApplyToDifference(int64_t first, const float* values,
                                   const float* base, float weight, float* out,
                                   size_t count) {
  Subtract(values, base, out, count);
  Apply(first, out, count);
  Scale(weight, out, out, count);
}

namespace {

// Sums of magnitudes before and after.
class L1Match {
 public:
  void Add(const float* before, const float* after, size_t count) {
    AddL1(before, count, before_);
    AddL1(after, count, after_);
  }
  void AddKept(const float* before, const uint64_t* kept, size_t count) {
    AddL1Kept(before, kept, count, before_, after_);
  }
  float factor() const {
    constexpr double kTiny = 1e-7;
    if (before_ < kTiny || after_ < kTiny) return 1.0f;
    return static_cast<float>(before_ / after_);
  }

 private:
  double before_ = 0, after_ = 0;
};

int64_t MaskBytes(int64_t elements) {
  return static_cast<int64_t>(MaskWords(static_cast<size_t>(elements)) *
                              sizeof(uint64_t));
}

class KeepAll : public Sparsifier {
 public:
  bool keeps_all() const override { return true; }
  void Apply(int64_t, float*, size_t) override {}
  bool Describe(ElementMember&) const override { return true; }
};

class DropAll : public Sparsifier {
 public:
  void Apply(int64_t, float* values, size_t count) override {
    std::fill_n(values, count, 0.0f);
  }
  bool Describe(ElementMember& member) const override {
    member.is_random = true;  // with a threshold that no word is below
    return true;
  }
};

// Keeps a window of the ranks of magnitudes.
class RankTrim : public Sparsifier {
 public:
  RankTrim(int64_t begin, int64_t end, int64_t elements, bool is_rescaled)
      : window_(begin, end, elements), is_rescaled_(is_rescaled) {}

  int passes() const override {
    return RankWindow::kPasses + (is_rescaled_ ? 1 : 0);
  }
  PassScope scope(int pass) const override {
    return pass < RankWindow::kPasses ? window_.scope(pass) : PassScope::kAll;
  }
  int64_t memory_bytes() const override { return window_.memory_bytes(); }
  void Observe(int pass, int64_t, const float* values, size_t count) override {
    if (pass < RankWindow::kPasses) {
      window_.Count(pass, values, count);
      return;
    }
    kept_.assign(values, values + count);
    window_.Apply(kept_.data(), count);
    sums_.Add(values, kept_.data(), count);
  }
  void EndPass(int pass) override {
    if (pass < RankWindow::kPasses) {
      window_.EndPass(pass);
    } else {
      factor_ = sums_.factor();
    }
    window_.Rewind();
  }
  void Apply(int64_t, float* values, size_t count) override {
    window_.Apply(values, count);
    if (factor_ != 1.0f) Scale(factor_, values, values, count);
  }
  void ApplyToDifference(int64_t first, const float* values, const float* base,
                         float weight, float* out, size_t count) override {
    if (factor_ != 1.0f) {
      return Sparsifier::ApplyToDifference(first, values, base, weight, out,
                                           count);
    }
    window_.ApplyToDifference(values, base, weight, out, count);
  }

 private:
  RankWindow window_;
  const bool is_rescaled_;
  std::vector<float> kept_;
  L1Match sums_;
  float factor_ = 1;
};

// What the first pass drew, where there is one, is remembered: a bit an
// element takes less time to read than to draw again.
class RandomDrop : public Sparsifier {
 public:
  RandomDrop(int64_t elements, double density, uint64_t key, bool is_rescaled)
      : elements_(elements),
        threshold_(static_cast<uint32_t>(std::ldexp(density, 32))),
        key_(key),
        is_rescaled_(is_rescaled) {}

  int passes() const override { return is_rescaled_ ? 1 : 0; }
  int64_t memory_bytes() const override {
    return is_rescaled_ ? MaskBytes(elements_) : 0;
  }
  void Observe(int, int64_t first, const float* values, size_t count) override {
    bits_.resize(MaskWords(static_cast<size_t>(elements_)));
    uint64_t* bits = &bits_[static_cast<size_t>(first / 64)];
    RandomMask(key_, first, threshold_, bits, count);
    sums_.AddKept(values, bits, count);
  }
  void EndPass(int) override { factor_ = sums_.factor(); }
  void Apply(int64_t first, float* values, size_t count) override {
    if (is_rescaled_) {
      return ScaleKept(&bits_[static_cast<size_t>(first / 64)], factor_, values,
                       count);
    }
    uint64_t bits[kSumBlock / 64];
    for (size_t i = 0; i < count; i += kSumBlock) {
      const size_t n = std::min(kSumBlock, count - i);
      RandomMask(key_, first + static_cast<int64_t>(i), threshold_, bits, n);
      ScaleKept(bits, 1.0f, values + i, n);
    }
  }
  void ApplyToDifference(int64_t first, const float* values, const float* base,
                         float weight, float* out, size_t count) override {
    if (!is_rescaled_) {
      return Sparsifier::ApplyToDifference(first, values, base, weight, out,
                                           count);
    }
    KeepDifference(&bits_[static_cast<size_t>(first / 64)], factor_, values,
                   base, weight, out, count);
  }
  bool Describe(ElementMember& member) const override {
    member.key = key_;
    member.threshold = threshold_;
    member.kept_factor = factor_;
    member.is_random = true;
    return true;
  }

 private:
  const int64_t elements_;
  const uint32_t threshold_;
  const uint64_t key_;
  const bool is_rescaled_;
  std::vector<uint64_t> bits_;
  L1Match sums_;
  float factor_ = 1;
};

// The choice is made in the first pass and remembered, a bit an element.
class RankedDrop : public Sparsifier {
 public:
  RankedDrop(const std::vector<int64_t>& shape, double density, double epsilon,
             uint64_t key, bool is_rescaled)
      : stride_(1), key_(key), is_rescaled_(is_rescaled) {
    int64_t elements = 1;
    for (int64_t dimension : shape) elements *= dimension;
    length_ = shape.size() < 2 ? elements : shape[1];
    for (size_t i = 2; i < shape.size(); ++i) stride_ *= shape[i];
    bits_.resize(MaskWords(static_cast<size_t>(elements)));
    chooser_.emplace(static_cast<size_t>(length_), density, epsilon);
  }

  int64_t granule() const override {
    return std::max<int64_t>(1, length_ * stride_);
  }
  int passes() const override { return 1; }
  int64_t memory_bytes() const override {
    return static_cast<int64_t>(bits_.size() * sizeof(uint64_t)) +
           RankedChooser::MemoryBytes(length_, stride_) + granule() * 5;
  }

  void Observe(int, int64_t first, const float* values, size_t count) override {
    words_.resize(count);
    RandomWords(key_, first, words_.data(), count);
    const auto length = static_cast<size_t>(length_);
    const auto stride = static_cast<size_t>(stride_);
    for (size_t block = 0; block < count; block += length * stride) {
      for (size_t lane = 0; lane < stride; ++lane) {
        chooser_->Choose(values + block + lane, words_.data() + block + lane,
                         stride);
      }
    }
    range_bits_.resize(MaskWords(count));
    PackMask(words_.data(), range_bits_.data(), count);
    sums_.AddKept(values, range_bits_.data(), count);
    PutBits(static_cast<size_t>(first), count);
  }
  void EndPass(int) override {
    if (is_rescaled_) factor_ = sums_.factor();
  }
  void Apply(int64_t first, float* values, size_t count) override {
    const auto at = static_cast<size_t>(first);
    if (at % 64 == 0) return ScaleKept(&bits_[at / 64], factor_, values, count);
    for (size_t i = 0; i < count; ++i) {
      const bool is_kept = (bits_[(at + i) / 64] >> ((at + i) % 64)) & 1;
      values[i] = is_kept ? factor_ * values[i] : 0.0f;
    }
  }

  void ApplyToDifference(int64_t first, const float* values, const float* base,
                         float weight, float* out, size_t count) override {
    if (first % 64 != 0) {
      return Sparsifier::ApplyToDifference(first, values, base, weight, out,
                                           count);
    }
    KeepDifference(&bits_[static_cast<size_t>(first / 64)], factor_, values,
                   base, weight, out, count);
  }

 private:
  // The range's bits to their place among all, which are zeros so far.
  void PutBits(size_t first, size_t count) {
    if (count % 64 != 0) {
      range_bits_.back() &= (uint64_t{1} << (count % 64)) - 1;
    }
    const size_t shift = first % 64;
    uint64_t* at = &bits_[first / 64];
    for (const uint64_t word : range_bits_) {
      *at++ |= word << shift;
      // What is left has no room in the last number when it is empty.
      const uint64_t rest = shift == 0 ? 0 : word >> (64 - shift);
      if (rest != 0) *at |= rest;
    }
  }

  int64_t length_ = 1, stride_;
  const uint64_t key_;
  const bool is_rescaled_;
  std::optional<RankedChooser> chooser_;
  std::vector<uint64_t> bits_, range_bits_;
  std::vector<uint32_t> words_;
  L1Match sums_;
  float factor_ = 1;
};

}  // namespace

std::unique_ptr<Sparsifier> MakeKeepAll() {
  return std::make_unique<KeepAll>();
}

std::unique_ptr<Sparsifier> MakeMagnitudeTrim(int64_t elements, double density,
                                              bool is_rescaled) {
  if (density <= 0 || elements == 0) return std::make_unique<DropAll>();
  const auto kept = std::max<int64_t>(
      1, static_cast<int64_t>(density * static_cast<double>(elements)));
  return std::make_unique<RankTrim>(elements - kept, elements, elements,
                                    is_rescaled);
}

std::unique_ptr<Sparsifier> MakeOutlierTrim(int64_t elements, double density,
                                            double gamma, bool is_rescaled) {
  const auto count = static_cast<double>(elements);
  const auto kept = static_cast<int64_t>(density * count);
  const auto top = static_cast<int64_t>(gamma * count);
  const int64_t begin = std::max<int64_t>(0, elements - kept - top);
  if (kept == 0) return std::make_unique<DropAll>();
  return std::make_unique<RankTrim>(begin, begin + kept, elements, is_rescaled);
}

std::unique_ptr<Sparsifier> MakeRandomDrop(int64_t elements, double density,
                                           uint64_t key, bool is_rescaled) {
  return std::make_unique<RandomDrop>(elements, density, key, is_rescaled);
}

std::unique_ptr<Sparsifier> MakeRankedDrop(const std::vector<int64_t>& shape,
                                           double density, double epsilon,
                                           uint64_t key, bool is_rescaled) {
  if (density <= 0) return std::make_unique<DropAll>();
  return std::make_unique<RankedDrop>(shape, density, epsilon, key,
                                      is_rescaled);
}

}  // namespace cairn
