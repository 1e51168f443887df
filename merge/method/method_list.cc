#include <algorithm>
#include <utility>

#include "merge/method/method_makers.h"
#include "merge/method/tensor_method.h"

namespace cairn {
namespace {

std::vector<MethodSpec> MakeList() {
  std::vector<MethodSpec> list = TaskVectorMethods();
  for (MethodSpec& spec : ElementwiseMethods()) list.push_back(std::move(spec));
  for (MethodSpec& spec : IsoMethods()) list.push_back(std::move(spec));
  for (MethodSpec& spec : KrumMethods()) list.push_back(std::move(spec));
  for (MethodSpec (*make)() :
       {&LinearMethod, &PassthroughMethod, &SlerpMethod, &NuslerpMethod,
        &MultislerpMethod, &KarcherMethod, &ModelStockMethod, &SceMethod,
        &RamMethod, &RamPlusMethod, &NearswapMethod, &ArceeFusionMethod,
        &GeometricMedianMethod, &TsvMethod, &SvcMethod, &KnotsMethod,
        &OpcmMethod, &RegmeanMethod, &FisherMethod, &DilocoMethod,
        &PcbMethod}) {
    list.push_back(make());
  }
  std::sort(
      list.begin(), list.end(),
      [](const MethodSpec& a, const MethodSpec& b) { return a.name < b.name; });
  return list;
}

}  // namespace

int64_t MethodTask::elements() const {
  int64_t product = 1;
  for (int64_t dimension : shape) product *= dimension;
  return product;
}

std::vector<size_t> MethodTask::Others() const {
  std::vector<size_t> others;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (base != i && !inputs[i].fisher_of) others.push_back(i);
  }
  return others;
}

ElementFormula ElementFormula::Of(ElementKind kind, std::optional<size_t> base,
                                  const std::vector<size_t>& members,
                                  std::vector<float> weights) {
  ElementFormula formula;
  formula.rule.kind = kind;
  formula.rule.has_base = base.has_value();
  formula.rule.base = static_cast<uint32_t>(base.value_or(0));
  formula.rule.members = static_cast<uint32_t>(members.size());
  for (size_t input : members) {
    formula.members.push_back({.input = static_cast<uint32_t>(input)});
  }
  formula.weights = std::move(weights);
  return formula;
}

std::vector<int64_t> LookPlaces(int64_t elements) {
  constexpr int64_t kStep = 1 << 16, kPlacesMin = 32, kPlacesMax = 512;
  const int64_t places = std::clamp(elements / kStep, kPlacesMin, kPlacesMax);
  // Blocks begin where tiles may.
  constexpr int64_t kBlock = 4096;
  std::vector<int64_t> begins;
  for (int64_t place = 0; place < places; ++place) {
    const int64_t begin =
        (2 * place + 1) * (elements / (2 * places)) / kBlock * kBlock;
    if (begins.empty() || begin > begins.back()) begins.push_back(begin);
  }
  return begins;
}

int64_t TileElements(int64_t tile_elements, int64_t granule) {
  if (granule <= 1) return tile_elements;
  return granule * std::max<int64_t>(1, tile_elements / granule);
}

const MethodParameter* MethodSpec::Find(absl::string_view parameter) const {
  for (const MethodParameter& p : parameters) {
    if (p.name == parameter) return &p;
  }
  return nullptr;
}

absl::Span<const MethodSpec> AllMethods() {
  static const auto& list = *new std::vector<MethodSpec>(MakeList());
  return list;
}

const MethodSpec* FindMethod(absl::string_view name) {
  for (const MethodSpec& spec : AllMethods()) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

MethodParameter SharedNumber(absl::string_view name, double fallback,
                             double least, double most) {
  return {.name = std::string(name),
          .fallback = fallback,
          .least = least,
          .most = most};
}

MethodParameter SharedBool(absl::string_view name, bool fallback) {
  return {.name = std::string(name),
          .kind = MethodParameter::Kind::kBool,
          .fallback = fallback ? 1.0 : 0.0,
          .least = 0,
          .most = 1};
}

MethodParameter OtherNumber(absl::string_view name,
                            std::optional<double> fallback, double least,
                            double most) {
  return {.name = std::string(name),
          .scope = MethodParameter::Scope::kOther,
          .fallback = fallback,
          .least = least,
          .most = most};
}

}  // namespace cairn
