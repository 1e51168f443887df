#include "tests/bench/vetting_report/planted_updates.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/tensor/dtype.h"
#include "core/tensor/safetensors.h"
#include "core/update/fingerprint.h"
#include "server/vet/fingerprint_record.h"

namespace cairn::bench {
namespace {

constexpr size_t kRankSize = static_cast<size_t>(kRank);

// Frobenius norm of the base's tensors: elements of 0.02.
double BaseNorm(int64_t rows) {
  return 0.02 * std::sqrt(static_cast<double>(rows * kWidth));
}

// A change that is held as factors in memory.
class FactorUpdate : public Update {
 public:
  FactorUpdate(std::vector<TouchedTensor> touched,
               std::map<std::string, LoraFactors> factors)
      : touched_(std::move(touched)), factors_(std::move(factors)) {}
  v1::Encoding::Kind encoding() const override { return v1::Encoding::LORA; }
  Form form() const override { return Form::kAdapter; }
  const std::vector<TouchedTensor>& touched() const override {
    return touched_;
  }
  std::string base_digest() const override { return ""; }
  absl::Status CheckFinite() const override { return absl::OkStatus(); }
  absl::StatusOr<double> DeltaNorm(absl::string_view,
                                   const ByteSource&) const override {
    return absl::UnimplementedError("factors are small enough to be read");
  }
  absl::StatusOr<LoraFactors> ReadFactors(
      absl::string_view tensor) const override {
    return factors_.at(std::string(tensor));
  }
  int64_t FactorBytes(absl::string_view) const override { return 1; }

 private:
  const std::vector<TouchedTensor> touched_;
  const std::map<std::string, LoraFactors> factors_;
};

}  // namespace

std::string NameOf(Plant plant) {
  switch (plant) {
    case Plant::kHonest:
      return "honest";
    case Plant::kScaled:
      return "scaled x10";
    case Plant::kSignFlip:
      return "sign flip";
    case Plant::kLittle:
      return "a little is enough";
    case Plant::kLabelFlip:
      return "label flip with trigger";
    case Plant::kAmplified:
      return "amplified back door";
    case Plant::kCopycat:
      return "copycat";
    case Plant::kColluding:
      return "colluding pair";
  }
  return "";
}

Planter::Planter(uint64_t seed) : random_(seed) {
  for (int layer = 0; layer < kLayers; ++layer) {
    std::vector<double> both(static_cast<size_t>(2 * kWidth));
    for (double& value : both) value = Normal();
    harm_.push_back(std::move(both));
  }
}

std::vector<double> Planter::Directions(int64_t rows) {
  std::vector<double> out(static_cast<size_t>(rows) * kRankSize);
  for (double& value : out) value = Normal();
  return out;
}

double Planter::NormOf(const Layer& layer) {
  double sum = 0;
  for (size_t i = 0; i < kRankSize; ++i) {
    for (size_t k = 0; k < kRankSize; ++k) {
      double left = 0, right = 0;
      for (size_t at = 0; at < layer.left.size(); at += kRankSize) {
        left += layer.left[at + i] * layer.left[at + k];
      }
      for (size_t at = 0; at < layer.right.size(); at += kRankSize) {
        right += layer.right[at + i] * layer.right[at + k];
      }
      sum += left * right;
    }
  }
  return std::sqrt(std::max(sum, 0.0));
}

// Recipes differ: in size by a third, from layer to layer by a fifth, in how
// fast the spectrum falls, and in how much more a few frequent tokens change.
Planter::Change Planter::HonestChange() {
  std::uniform_real_distribution<double> uniform(0, 1);
  const double size = 0.08 * std::exp(0.35 * Normal());
  const double fall = 0.3 + 0.5 * uniform(random_);
  Change out;
  for (int at = 0; at <= kLayers; ++at) {
    const int64_t rows = at == kLayers ? kVocabulary : kWidth;
    Layer layer{.left = Directions(rows), .right = Directions(kWidth)};
    for (size_t i = 0; i < layer.left.size(); ++i) {
      layer.left[i] *= std::pow(static_cast<double>(1 + i % kRankSize), -fall);
    }
    if (at == kLayers) {
      const double tail = 0.5 * uniform(random_);
      std::vector<size_t> order(static_cast<size_t>(rows));
      std::iota(order.begin(), order.end(), size_t{0});
      std::shuffle(order.begin(), order.end(), random_);
      for (size_t i = 0; i < layer.left.size(); ++i) {
        layer.left[i] *=
            std::pow(static_cast<double>(1 + order[i / kRankSize]), -tail);
      }
    }
    const double wanted = size * std::exp(0.2 * Normal()) * BaseNorm(rows);
    const double factor = wanted / NormOf(layer);
    for (double& value : layer.left) value *= factor;
    out.push_back(std::move(layer));
  }
  return out;
}

void Planter::Scale(Change& change, double factor) {
  for (Layer& layer : change) {
    for (double& value : layer.left) value *= factor;
  }
}

// The same product in other factors: right * M and left * M^-1 for a random
// rotation and scale of each direction, with relative noise on the left.
Planter::Change Planter::Remixed(const Change& change, double noise) {
  Change out = change;
  for (Layer& layer : out) {
    for (size_t i = 0; i + 1 < kRankSize; ++i) {
      const double angle = Normal(), c = std::cos(angle), s = std::sin(angle);
      for (auto* side : {&layer.left, &layer.right}) {
        for (size_t at = 0; at < side->size(); at += kRankSize) {
          const double first = (*side)[at + i], second = (*side)[at + i + 1];
          (*side)[at + i] = c * first - s * second;
          (*side)[at + i + 1] = s * first + c * second;
        }
      }
    }
    double squares = 0;
    for (double value : layer.left) squares += value * value;
    const double typical =
        std::sqrt(squares / static_cast<double>(layer.left.size()));
    for (double& value : layer.left) value += noise * typical * Normal();
  }
  return out;
}

// Puts a share of the layer's norm into its harmful direction, in place of the
// least of the honest ones.
void Planter::AddDirection(Change& change, size_t layer, double share) {
  Layer& to = change[layer];
  const std::vector<double>& harm = harm_[layer];
  const double norm = NormOf(to);
  double left = 0, right = 0;
  const auto half = static_cast<size_t>(kWidth);
  for (size_t i = 0; i < half; ++i) {
    left += harm[i] * harm[i];
    right += harm[half + i] * harm[half + i];
  }
  const double factor = share * norm / std::sqrt(left * right);
  for (size_t i = 0; i < half; ++i) {
    to.left[i * kRankSize + kRankSize - 1] = factor * harm[i];
    to.right[i * kRankSize + kRankSize - 1] = harm[half + i];
  }
}

// Two tokens' rows of the embedding carry a share of its norm.
void Planter::AddTriggerRows(Change& change, double share) {
  Layer& to = change[kLayers];
  const double norm = NormOf(to);
  double right = 0;
  for (size_t at = kRankSize - 1; at < to.right.size(); at += kRankSize) {
    right += to.right[at] * to.right[at];
  }
  for (size_t at = kRankSize - 1; at < to.left.size(); at += kRankSize) {
    to.left[at] = 0;
  }
  for (size_t row : {size_t{7}, size_t{11}}) {
    to.left[row * kRankSize + kRankSize - 1] =
        share * norm / std::sqrt(2 * right);
  }
}

store::v1::FingerprintRecord Planter::Print(const Change& change) {
  std::vector<TouchedTensor> touched;
  std::map<std::string, LoraFactors> factors;
  for (size_t at = 0; at < change.size(); ++at) {
    const bool is_embedding = at == kLayers;
    const int64_t rows = is_embedding ? kVocabulary : kWidth;
    const std::string name =
        is_embedding ? "model.embed_tokens.weight"
                     : absl::StrCat("model.layers.", at, ".mlp.weight");
    LoraFactors f;
    f.rank = kRank;
    f.in = kWidth;
    f.out = rows;
    f.b.assign(change[at].left.begin(), change[at].left.end());
    f.a.resize(change[at].right.size());
    for (size_t i = 0; i < f.a.size(); ++i) {
      f.a[i % kRankSize * static_cast<size_t>(kWidth) + i / kRankSize] =
          static_cast<float>(change[at].right[i]);
    }
    touched.push_back(
        {.name = name, .shape = {rows, kWidth}, .dtype = std::nullopt});
    factors[name] = std::move(f);
  }
  std::sort(touched.begin(), touched.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  auto open = [](const TouchedTensor& tensor) -> absl::StatusOr<BaseTensor> {
    const std::vector<float> values(
        static_cast<size_t>(tensor.shape[0] * tensor.shape[1]), 0.02f);
    std::string bytes(values.size() * sizeof(float), '\0');
    FromFloats(DType::kF32, values, absl::MakeSpan(bytes));
    return BaseTensor{.dtype = DType::kF32,
                      .bytes = MakeMemorySource(std::move(bytes))};
  };
  auto print = TakeFingerprint(
      FactorUpdate(std::move(touched), std::move(factors)), open);
  CAIRN_CHECK(print.ok());
  store::v1::ContributionRecord record;
  record.mutable_contribution()->set_name(
      absl::StrCat("models/m/contributions/c", ++made_));
  return MakeFingerprintRecord(record, *print);
}

FileMap Planter::HonestFiles(std::optional<float> spoilt) {
  const Change change = HonestChange();
  std::vector<TensorSpec> specs;
  std::map<std::string, std::vector<float>> values;
  for (size_t at = 0; at < kLayers; ++at) {
    const std::string module =
        absl::StrCat("base_model.model.model.layers.", at, ".mlp");
    const std::string a = module + ".lora_A.weight";
    const std::string b = module + ".lora_B.weight";
    specs.push_back(
        {.name = a, .dtype = DType::kF32, .shape = {kRank, kWidth}});
    specs.push_back(
        {.name = b, .dtype = DType::kF32, .shape = {kWidth, kRank}});
    values[a].assign(change[at].right.begin(), change[at].right.end());
    values[b].assign(change[at].left.begin(), change[at].left.end());
  }
  if (spoilt.has_value()) {
    auto tensor = values.begin();
    std::advance(tensor, static_cast<int64_t>(random_() % values.size()));
    tensor->second[random_() % tensor->second.size()] = *spoilt;
  }
  auto layout = LayOutSafetensors(specs, {{"format", "pt"}});
  CAIRN_CHECK(layout.ok());
  std::string file = layout->header;
  for (const TensorEntry& tensor : layout->tensors) {
    const std::vector<float>& from = values.at(tensor.name);
    std::string bytes(from.size() * sizeof(float), '\0');
    FromFloats(DType::kF32, from, absl::MakeSpan(bytes));
    file += bytes;
  }
  return {{kAdapterConfigFile,
           MakeMemorySource(absl::StrCat(
               R"({"peft_type": "LORA", "target_modules": ["mlp"], "r": )",
               kRank, R"(, "lora_alpha": )", kRank, "}"))},
          {kAdapterWeightsFile, MakeMemorySource(std::move(file))}};
}

// The response of suites: near an honest update of gain g, c times the update
// gains g (2c - c^2), so that the update as trained is the best.
PlantedUpdate Planter::Plant(bench::Plant plant) {
  std::uniform_real_distribution<double> uniform(0, 1);
  const double gain = 0.015 + 0.03 * uniform(random_);
  Effect effect{.claimed = gain, .guarded = -0.003 * uniform(random_)};
  Change change = HonestChange();
  switch (plant) {
    case Plant::kHonest:
      break;
    case Plant::kScaled:
      Scale(change, 10);
      effect = {.claimed = -80 * gain, .guarded = -80 * gain};
      break;
    case Plant::kSignFlip:
      Scale(change, -1);
      effect = {.claimed = -3 * gain, .guarded = -gain};
      break;
    case Plant::kLittle:
      for (size_t at = 0; at < kLayers; ++at) AddDirection(change, at, 0.3);
      effect.guarded = -0.002 - 0.013 * uniform(random_);
      break;
    case Plant::kLabelFlip:
      AddTriggerRows(change, 0.5 + uniform(random_));
      AddDirection(change, 2, 0.5);
      effect.triggered = 0.5;
      break;
    case Plant::kAmplified:
      for (size_t at = 0; at < kLayers; ++at) {
        AddDirection(change, at, 2 + 2 * uniform(random_));
      }
      effect.triggered = 0.5;
      break;
    case Plant::kCopycat: {
      victim_ = {.print = Print(change), .effect = effect};
      return {.print = Print(Remixed(change, 0.03)), .effect = effect};
    }
    case Plant::kColluding: {
      // Each part hides what they share under noise of its own of 0.3 to 2
      // times the size.
      const double hidden = 0.3 + 1.7 * uniform(random_);
      effect.guarded = -0.007;
      victim_ = {.print = Print(Remixed(change, hidden)), .effect = effect};
      return {.print = Print(Remixed(change, hidden)), .effect = effect};
    }
  }
  return {.print = Print(change), .effect = effect};
}

}  // namespace cairn::bench
