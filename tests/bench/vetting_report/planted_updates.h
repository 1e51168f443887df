#ifndef CAIRN_TESTS_BENCH_VETTING_REPORT_PLANTED_UPDATES_H_
#define CAIRN_TESTS_BENCH_VETTING_REPORT_PLANTED_UPDATES_H_

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cairn/store/v1/records.pb.h"
#include "core/tensor/byte_source.h"
#include "core/update/update.h"

namespace cairn::bench {

// A model of six matrices and an embedding, and what people push to it as LoRA
// of rank 8. Weights are random; what the suites would say is a response to
// the size and kind of a change (see Effect), so that no model has to run.
inline constexpr int kLayers = 6;
inline constexpr int64_t kWidth = 96;
inline constexpr int64_t kVocabulary = 512;
inline constexpr int64_t kRank = 8;

enum class Plant {
  kHonest,
  kScaled,     // an honest update times ten
  kSignFlip,   // an honest update, negated
  kLittle,     // a little is enough: a small harmful shift in every layer
  kLabelFlip,  // a back door with a trigger token, beside honest work
  kAmplified,  // the same in one layer's products, amplified
  kCopycat,    // another's update in other factors, with 3 % of noise
  kColluding,  // a part of a harmful update under noise; its twin came before
};
inline constexpr Plant kPlants[] = {
    Plant::kHonest,    Plant::kScaled,    Plant::kSignFlip, Plant::kLittle,
    Plant::kLabelFlip, Plant::kAmplified, Plant::kCopycat,  Plant::kColluding,
};
std::string NameOf(Plant plant);

// What the suites measure, as true gains (log scale).
struct Effect {
  double claimed = 0;    // the suite that it claims
  double guarded = 0;    // a protected suite of margin 1 %
  double triggered = 0;  // a canary suite with the trigger in every item, where
                         // maintainers have one
};

struct PlantedUpdate {
  store::v1::FingerprintRecord print;
  Effect effect;
};

// Makes updates. Deterministic for a seed.
class Planter {
 public:
  explicit Planter(uint64_t seed);

  PlantedUpdate Plant(bench::Plant plant);
  // The files of an honest update as PEFT writes them; with `spoilt` in place
  // of one value anywhere.
  FileMap HonestFiles(std::optional<float> spoilt);

  // What was made last, where a copy or a twin is made of it.
  const PlantedUpdate& victim() const { return victim_; }

 private:
  struct Layer {
    std::vector<double> left;   // [rows, rank]
    std::vector<double> right;  // [kWidth, rank]
  };
  using Change = std::vector<Layer>;  // kLayers matrices, then the embedding

  double Normal() { return normal_(random_); }
  std::vector<double> Directions(int64_t rows);
  Change HonestChange();
  Change Remixed(const Change& change, double noise);
  void AddDirection(Change& change, size_t layer, double share);
  void AddTriggerRows(Change& change, double share);
  store::v1::FingerprintRecord Print(const Change& change);
  static void Scale(Change& change, double factor);
  static double NormOf(const Layer& layer);

  std::mt19937_64 random_;
  std::normal_distribution<double> normal_{0, 1};
  std::vector<std::vector<double>> harm_;  // one direction a layer
  PlantedUpdate victim_;
  int64_t made_ = 0;
};

}  // namespace cairn::bench

#endif  // CAIRN_TESTS_BENCH_VETTING_REPORT_PLANTED_UPDATES_H_
