#ifndef CAIRN_MERGE_METHOD_TESTING_METHOD_CASES_H_
#define CAIRN_MERGE_METHOD_TESTING_METHOD_CASES_H_

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "merge/method/tensor_method.h"
#include "merge/method/testing/run_method.h"

namespace cairn::testing {

using Tensors = std::vector<std::vector<float>>;

// A base, and models that lie about it.
inline Tensors RandomTensors(size_t inputs, size_t elements, float drift = 0.3f) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  Tensors tensors(inputs, std::vector<float>(elements));
  for (size_t e = 0; e < elements; ++e) {
    const float base = normal(random);
    for (size_t i = 0; i < inputs; ++i) {
      tensors[i][e] = base + (i == 0 ? 0 : drift * normal(random));
    }
  }
  return tensors;
}

// A task with defaults, and a value for what is required.
inline MethodTask Task(const MethodSpec& spec, std::vector<int64_t> shape,
                       size_t inputs) {
  MethodTask task;
  task.shape = std::move(shape);
  task.inputs.resize(inputs);
  if (spec.base != MethodSpec::Base::kIgnored) task.base = 0;
  for (const MethodParameter& p : spec.parameters) {
    if (p.is_optional || p.is_file()) continue;
    double value = p.fallback.value_or(0.4);
    if (p.name == "density") value = 0.6;
    if (p.scope == MethodParameter::Scope::kShared) {
      task.parameters[p.name] = value;
      continue;
    }
    for (size_t i = 0; i < inputs; ++i) {
      if (p.scope == MethodParameter::Scope::kOther && task.base == i) continue;
      task.inputs[i].parameters[p.name] =
          p.name == "weight" ? value + 0.1 * static_cast<double>(i) : value;
    }
  }
  for (size_t i = 0; i < inputs; ++i) task.inputs[i].random_key = 100 + i;
  return task;
}

// Merges as the engine does, in tiles of about `tile_elements`.
inline std::vector<float> RunMethod(const MethodSpec& spec,
                                    const MethodTask& task,
                                    const Tensors& tensors,
                                    size_t tile_elements) {
  auto merged = TryMethod(spec, task, tensors, tile_elements);
  EXPECT_TRUE(merged.ok()) << spec.name << ": " << merged.status();
  return *std::move(merged);
}

// Gives a method that wants one a Fisher diagonal of each model.
inline void AddFisher(const MethodSpec& spec, MethodTask& task,
                      Tensors& tensors) {
  if (spec.Find("fisher") == nullptr) return;
  for (size_t i : task.Others()) {
    task.inputs.push_back({.fisher_of = i});
    tensors.push_back(tensors[i]);
    for (float& value : tensors.back()) value *= value;
  }
}

// How many inputs a method is tried with.
inline size_t InputsFor(const MethodSpec& spec) {
  const bool has_base = spec.base != MethodSpec::Base::kIgnored;
  const int others =
      std::min({3, spec.others_max, spec.inputs_max - (has_base ? 1 : 0)});
  return static_cast<size_t>(others + (has_base ? 1 : 0));
}

// Zeros of both signs, subnormal, equal and large numbers, and numbers around
// what F16 and BF16 round.
inline const std::vector<float> kSpecials = {
    0.0f,  -0.0f,    1e-40f,   -1e-40f,  1e-45f, 6e-8f,  -6e-8f,      1e-6f,
    1.0f,  65504.0f, 65519.0f, 65520.0f, 1e30f,  -1e30f, 1.00390625f, -1.0f,
    0.333f};
// What is not finite, or not for long.
inline const std::vector<float> kOverflowing = {INFINITY, -INFINITY, NAN,
                                                3.3e38f, -3.3e38f};

// The same as RandomTensors() with `special` numbers among them, in all
// combinations.
inline Tensors SpecialTensors(size_t inputs, size_t elements,
                              const std::vector<float>& special) {
  Tensors tensors = RandomTensors(inputs, elements);
  for (size_t e = 0; e < elements; e += 2) {
    size_t choice = e / 2;
    for (size_t i = 0; i < inputs; ++i) {
      tensors[i][e] = special[(choice + i * i) % special.size()];
      choice /= special.size();
    }
  }
  return tensors;
}

// What a method is tried with: a method that looks at a whole tensor first
// makes nothing of one that is not finite.
inline std::vector<Tensors> TensorsFor(const MethodSpec& spec,
                                       const MethodTask& task, size_t inputs) {
  const auto elements = static_cast<size_t>(task.elements());
  std::vector<Tensors> all = {
      RandomTensors(inputs, elements),
      SpecialTensors(inputs, elements, kSpecials)};
  if (spec.make(task).value()->passes() > 0) return all;
  std::vector<float> special = kSpecials;
  special.insert(special.end(), kOverflowing.begin(), kOverflowing.end());
  all.push_back(SpecialTensors(inputs, elements, special));
  return all;
}

}  // namespace cairn::testing

#endif  // CAIRN_MERGE_METHOD_TESTING_METHOD_CASES_H_
