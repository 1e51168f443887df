#include "merge/method/sparsifier.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/base/vector_clones.h"
#include "merge/method/counter_random.h"
#include "merge/method/rank_window.h"
#include "merge/method/row_ranks.h"
#include "merge/method/tile_math.h"

namespace cairn {

namespace internal {

// Zeroes values whose word is not below `threshold`.
CAIRN_VECTOR_CLONES void KeepBelow(const uint32_t* words, uint32_t threshold,
                                   float* values, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    values[i] = words[i] < threshold ? values[i] : 0.0f;
  }
}

// The values whose word is below `threshold`, and zeros.
CAIRN_VECTOR_CLONES void CopyBelow(const float* values, const uint32_t* words,
                                   uint32_t threshold, float* kept,
                                   size_t count) {
  for (size_t i = 0; i < count; ++i) {
    kept[i] = words[i] < threshold ? values[i] : 0.0f;
  }
}

// Packs 64 words that are 0 or 1.
CAIRN_VECTOR_CLONES uint64_t PackBits(const uint32_t* words) {
  uint64_t bits = 0;
  for (size_t i = 0; i < 64; ++i) bits |= uint64_t{words[i]} << i;
  return bits;
}

// 64 values times `factor` where their bit is set, else 0.
CAIRN_VECTOR_CLONES void KeepBits(uint64_t bits, float factor, float* values) {
  for (size_t i = 0; i < 64; ++i) {
    values[i] = (bits >> i) & 1 ? factor * values[i] : 0.0f;
  }
}

}  // namespace internal

namespace {

// Sums of magnitudes before and after.
class L1Match {
 public:
  void Add(const float* before, const float* after, size_t count) {
    AddL1(before, count, before_);
    AddL1(after, count, after_);
  }
  float factor() const {
    constexpr double kTiny = 1e-7;
    if (before_ < kTiny || after_ < kTiny) return 1.0f;
    return static_cast<float>(before_ / after_);
  }

 private:
  double before_ = 0, after_ = 0;
};

class KeepAll : public Sparsifier {
 public:
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

 private:
  RankWindow window_;
  const bool is_rescaled_;
  std::vector<float> kept_;
  L1Match sums_;
  float factor_ = 1;
};

class RandomDrop : public Sparsifier {
 public:
  RandomDrop(double density, uint64_t key, bool is_rescaled)
      : threshold_(static_cast<uint32_t>(std::ldexp(density, 32))),
        key_(key),
        is_rescaled_(is_rescaled) {}

  int passes() const override { return is_rescaled_ ? 1 : 0; }
  void Observe(int, int64_t first, const float* values, size_t count) override {
    words_.resize(std::max(words_.size(), count));
    RandomWords(key_, first, words_.data(), count);
    kept_.resize(std::max(kept_.size(), count));
    internal::CopyBelow(values, words_.data(), threshold_, kept_.data(), count);
    sums_.Add(values, kept_.data(), count);
  }
  void EndPass(int) override { factor_ = sums_.factor(); }
  void Apply(int64_t first, float* values, size_t count) override {
    Drop(first, values, count);
    if (factor_ != 1.0f) Scale(factor_, values, values, count);
  }
  bool Describe(ElementMember& member) const override {
    member.key = key_;
    member.threshold = threshold_;
    member.kept_factor = factor_;
    member.is_random = true;
    return true;
  }

 private:
  void Drop(int64_t first, float* values, size_t count) const {
    uint32_t words[1024];
    for (size_t i = 0; i < count; i += std::size(words)) {
      const size_t n = std::min(std::size(words), count - i);
      RandomWords(key_, first + static_cast<int64_t>(i), words, n);
      internal::KeepBelow(words, threshold_, values + i, n);
    }
  }

  const uint32_t threshold_;
  const uint64_t key_;
  const bool is_rescaled_;
  std::vector<uint32_t> words_;
  std::vector<float> kept_;
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
    bits_.resize(static_cast<size_t>((elements + 63) / 64));
    chooser_.emplace(static_cast<size_t>(length_), density, epsilon);
  }

  int64_t granule() const override {
    return std::max<int64_t>(1, length_ * stride_);
  }
  int passes() const override { return 1; }
  int64_t memory_bytes() const override {
    return static_cast<int64_t>(bits_.size() * sizeof(uint64_t)) +
           RankedChooser::MemoryBytes(length_, stride_) + granule() * 8;
  }

  void Observe(int, int64_t first, const float* values, size_t count) override {
    words_.resize(count);
    kept_.resize(count);
    RandomWords(key_, first, words_.data(), count);
    const auto length = static_cast<size_t>(length_);
    const auto stride = static_cast<size_t>(stride_);
    for (size_t block = 0; block < count; block += length * stride) {
      for (size_t lane = 0; lane < stride; ++lane) {
        chooser_->Choose(values + block + lane, words_.data() + block + lane,
                         stride, kept_.data() + block + lane);
      }
    }
    size_t i = 0;
    if (first % 64 == 0) {
      for (; i + 64 <= count; i += 64) {
        bits_[(static_cast<size_t>(first) + i) / 64] =
            internal::PackBits(words_.data() + i);
      }
    }
    for (; i < count; ++i) {
      const auto at = static_cast<size_t>(first) + i;
      bits_[at / 64] |= uint64_t{words_[i]} << (at % 64);
    }
    sums_.Add(values, kept_.data(), count);
  }
  void EndPass(int) override {
    if (is_rescaled_) factor_ = sums_.factor();
  }
  void Apply(int64_t first, float* values, size_t count) override {
    size_t i = 0;
    if (first % 64 == 0) {
      for (; i + 64 <= count; i += 64) {
        internal::KeepBits(bits_[(static_cast<size_t>(first) + i) / 64],
                           factor_, values + i);
      }
    }
    for (; i < count; ++i) {
      const auto at = static_cast<size_t>(first) + i;
      const bool is_kept = (bits_[at / 64] >> (at % 64)) & 1;
      values[i] = is_kept ? factor_ * values[i] : 0.0f;
    }
  }

 private:
  int64_t length_ = 1, stride_;
  const uint64_t key_;
  const bool is_rescaled_;
  std::optional<RankedChooser> chooser_;
  std::vector<uint64_t> bits_;
  std::vector<uint32_t> words_;
  std::vector<float> kept_;
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

std::unique_ptr<Sparsifier> MakeRandomDrop(double density, uint64_t key,
                                           bool is_rescaled) {
  return std::make_unique<RandomDrop>(density, key, is_rescaled);
}

std::unique_ptr<Sparsifier> MakeRankedDrop(const std::vector<int64_t>& shape,
                                           double density, double epsilon,
                                           uint64_t key, bool is_rescaled) {
  if (density <= 0) return std::make_unique<DropAll>();
  return std::make_unique<RankedDrop>(shape, density, epsilon, key,
                                      is_rescaled);
}

}  // namespace cairn
