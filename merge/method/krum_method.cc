#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"
#include "merge/method/whole_model.h"

namespace cairn {
namespace {

// base + lambda x mean of the chosen taus.
class Chosen : public TensorMethod {
 public:
  Chosen(const MethodTask& task, std::vector<size_t> chosen)
      : base_(*task.base),
        chosen_(std::move(chosen)),
        factor_(static_cast<float>(task.Shared("lambda") /
                                   static_cast<double>(chosen_.size()))),
        tau_(kSumBlock) {}

  void Combine(const InputTile& tile, float* out) override {
    for (size_t begin = 0; begin < tile.count; begin += kSumBlock) {
      const size_t count = std::min(kSumBlock, tile.count - begin);
      const float* base = tile.inputs[base_] + begin;
      std::fill_n(out + begin, count, 0.0f);
      for (size_t i : chosen_) {
        Subtract(tile.inputs[i] + begin, base, tau_.data(), count);
        AddScaledTo(factor_, tau_.data(), out + begin, count);
      }
      Add(out + begin, base, out + begin, count);
    }
  }

 private:
  const size_t base_;
  const std::vector<size_t> chosen_;
  const float factor_;
  std::vector<float> tau_;
};

// The inputs in the order of their scores: the sum of squared distances to
// the nearest n - faulty - 2 others.
std::vector<size_t> ByScore(const MethodTask& task, size_t faulty) {
  const std::vector<size_t> others = task.Others();
  const WholeModel& whole = *task.whole;
  const size_t n = others.size();
  const size_t near = n > faulty + 3 ? n - faulty - 2 : 1;
  std::vector<double> scores;
  for (size_t i : others) {
    std::vector<double> distances;
    for (size_t j : others) {
      if (i == j) continue;
      distances.push_back(whole.SquaredDistance(task.inputs[i].participant,
                                                task.inputs[j].participant));
    }
    std::sort(distances.begin(), distances.end());
    distances.resize(std::min(distances.size(), near));
    scores.push_back(
        std::accumulate(distances.begin(), distances.end(), 0.0));
  }
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return scores[a] < scores[b];
  });
  for (size_t& place : order) place = others[place];
  return order;
}

template <bool is_multi>
absl::StatusOr<std::unique_ptr<TensorMethod>> MakeKrum(MethodTask task) {
  const size_t n = task.Others().size();
  const auto given = task.parameters.find("faulty");
  const size_t faulty = given != task.parameters.end()
                            ? static_cast<size_t>(given->second)
                            : (n > 3 ? (n - 3) / 2 : 0);
  if (given != task.parameters.end() && n < 2 * faulty + 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter faulty: with ", faulty, " of them there must ",
                     "be at least ", 2 * faulty + 3, " models, and there are ",
                     n));
  }
  size_t count = 1;
  if (is_multi) {
    const auto select = task.parameters.find("select");
    count = select != task.parameters.end()
                ? static_cast<size_t>(select->second)
                : n - faulty;
    if (count > n) {
      return absl::InvalidArgumentError(absl::StrCat(
          "parameter select: ", count, " of ", n, " models cannot be taken"));
    }
  }
  std::vector<size_t> chosen = task.Others();
  if (task.whole != nullptr) chosen = ByScore(task, faulty);
  chosen.resize(count);
  return std::make_unique<Chosen>(task, std::move(chosen));
}

MethodParameter OptionalCount(absl::string_view name, double least) {
  return {.name = std::string(name),
          .kind = MethodParameter::Kind::kInteger,
          .least = least,
          .most = 1 << 20,
          .is_optional = true};
}

}  // namespace

std::vector<MethodSpec> KrumMethods() {
  const MethodParameter lambda =
      SharedNumber("lambda", 1.0, -kLargest, kLargest);
  const MethodParameter faulty = OptionalCount("faulty", 0);
  return {{.name = "krum",
           .source =
               "arXiv 1703.02757: the tau, as a whole model, with the least "
               "sum of squared distances to its n - faulty - 2 nearest; faulty "
               "is (n - 3) / 2 unless given",
           .base = MethodSpec::Base::kRequired,
           .others_min = 1,
           .is_on_deltas = true,
           .needs_products = true,
           .parameters = {lambda, faulty},
           .make = MakeKrum<false>},
          {.name = "multi_krum",
           .source =
               "arXiv 1703.02757: the mean of the `select` best by Krum's "
               "score; n - faulty unless given",
           .base = MethodSpec::Base::kRequired,
           .others_min = 1,
           .is_on_deltas = true,
           .needs_products = true,
           .parameters = {lambda, faulty, OptionalCount("select", 1)},
           .make = MakeKrum<true>}};
}

}  // namespace cairn
