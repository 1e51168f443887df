#include "merge/method/element_rule.h"

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor/float_bits.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "merge/method/tensor_method.h"
#include "merge/method/testing/method_cases.h"

namespace cairn {
namespace {

using testing::Tensors;

// The tensor as a device would merge it: passes here, then element by element
// by the formula. Empty when there is none.
std::vector<float> RunFormula(const MethodSpec& spec, const MethodTask& task,
                              const Tensors& tensors) {
  auto method = spec.make(task).value();
  if (!method->Formula()) return {};
  const size_t elements = tensors[0].size();
  InputTile tile = {.first = 0, .count = elements, .inputs = {}};
  for (const auto& tensor : tensors) tile.inputs.push_back(tensor.data());
  for (int pass = 0; pass < method->passes(); ++pass) {
    method->Observe(pass, tile);
    EXPECT_TRUE(method->EndPass(pass).ok()) << spec.name;
  }
  const std::optional<ElementFormula> formula = method->Formula();
  EXPECT_TRUE(formula.has_value()) << spec.name;
  std::vector<float> out(elements);
  VisitKind(formula->rule.kind, [&]<ElementKind kind>() {
    for (size_t e = 0; e < elements; ++e) {
      const auto load = [&](uint32_t input) { return tensors[input][e]; };
      out[e] = CombineElement<kind>(formula->rule, formula->members.data(),
                                    formula->weights.data(), e, load);
    }
  });
  return out;
}

void ExpectSameBits(const std::vector<float>& got,
                    const std::vector<float>& wanted, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(wanted[i])) continue;
    ASSERT_EQ(BitsOfFloat(got[i]), BitsOfFloat(wanted[i]))
        << what << " element " << i << ": " << got[i] << " is not "
        << wanted[i];
  }
}

TEST(ElementRuleTest, FormulasGiveTheBitsOfTheirMethods) {
  for (const MethodSpec& spec : AllMethods()) {
    const size_t inputs = testing::InputsFor(spec);
    const std::vector<int64_t> shape = {61, 173};
    MethodTask task = testing::Task(spec, shape, inputs);
    if (spec.name == "passthrough") task.inputs[0].parameters["scale"] = -1.3;
    Tensors measured = testing::RandomTensors(inputs, 1);
    testing::AddFisher(spec, task, measured);
    for (const Tensors& tensors : testing::TensorsFor(spec, task, inputs)) {
      const std::vector<float> got = RunFormula(spec, task, tensors);
      if (got.empty()) continue;
      ExpectSameBits(got, testing::RunMethod(spec, task, tensors, 4096),
                     spec.name);
    }
  }
}

// Parameters that change the arithmetic, of methods that have them.
TEST(ElementRuleTest, FormulasFollowParameters) {
  const std::map<std::string, std::vector<std::pair<std::string, double>>>
      kChanges = {{"task_arithmetic", {{"normalize", 1}, {"lambda", 0.7}}},
                  {"dare_ties", {{"normalize", 1}, {"rescale", 0}}},
                  {"dare_linear", {{"lambda", -0.3}}},
                  {"linear", {{"normalize", 0}}},
                  {"nuslerp", {{"nuslerp_flatten", 0}}},
                  {"model_stock", {{"filter_wise", 1}}},
                  {"trimmed_mean", {{"trim", 0.4}}},
                  {"consensus_ta", {{"agree", 1}, {"mask_lambda", 1.5}}}};
  for (const auto& [name, parameters] : kChanges) {
    const MethodSpec& spec = *FindMethod(name);
    const size_t inputs = testing::InputsFor(spec);
    MethodTask task = testing::Task(spec, {40, 30}, inputs);
    for (const auto& [parameter, value] : parameters) {
      task.parameters[parameter] = value;
    }
    const Tensors tensors = testing::RandomTensors(inputs, 1200);
    ExpectSameBits(RunFormula(spec, task, tensors),
                   testing::RunMethod(spec, task, tensors, 1200), name);
    if (name != "nuslerp") continue;
    task.parameters["nuslerp_row_wise"] = 1;
    ExpectSameBits(RunFormula(spec, task, tensors),
                   testing::RunMethod(spec, task, tensors, 1200), "columns");
  }
}

// Few inputs and many go by different loops.
TEST(ElementRuleTest, FormulasGiveTheBitsOfAnyNumberOfInputs) {
  for (const char* name : {"magmax", "emr", "consensus_ta", "median",
                           "trimmed_mean", "ties", "task_arithmetic"}) {
    const MethodSpec& spec = *FindMethod(name);
    for (size_t inputs = 2; inputs <= 8; ++inputs) {
      const MethodTask task = testing::Task(spec, {9, 157}, inputs);
      for (const Tensors& tensors : testing::TensorsFor(spec, task, inputs)) {
        const std::vector<float> got = RunFormula(spec, task, tensors);
        if (got.empty()) continue;
        ExpectSameBits(got, testing::RunMethod(spec, task, tensors, 1024),
                       absl::StrCat(name, " of ", inputs));
      }
    }
  }
}

// What runs on a device is a promise of merge/cuda/README.md.
TEST(ElementRuleTest, TheseMethodsHaveFormulas) {
  for (const char* name :
       {"consensus_ta", "dare_linear", "dare_ties", "emr", "geometric_median",
        "karcher", "linear", "magmax", "median", "model_stock", "multislerp",
        "nearswap", "nuslerp", "ram", "ramplus_tl", "slerp", "task_arithmetic",
        "trimmed_mean"}) {
    const MethodSpec& spec = *FindMethod(name);
    const MethodTask task =
        testing::Task(spec, {4, 6}, testing::InputsFor(spec));
    EXPECT_TRUE(spec.make(task).value()->Formula().has_value()) << name;
  }
}

}  // namespace
}  // namespace cairn
