#ifndef CAIRN_CORE_UPDATE_ADAPTER_STEPS_H_
#define CAIRN_CORE_UPDATE_ADAPTER_STEPS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/tensor/safetensors.h"
#include "core/update/expert_names.h"

namespace cairn {

// What an adapter does to one tensor is a list of steps, each of which names
// the tensors of the adapter's file that it takes.

// values += scale * B * A, or its transpose; with a magnitude every row (or
// column, where `inner` is 1) is then brought to its length (DoRA).
struct LowRankStep {
  TensorEntry a;  // [rank, in...]
  TensorEntry b;  // [out, rank...]
  int64_t rank = 0;
  int64_t in = 0;
  int64_t out = 0;
  double scale = 1;
  bool is_transposed = false;
  std::optional<TensorEntry> magnitude = {};
  int64_t inner = 1;
};

// The same for each expert of a part of a fused parameter: A is
// [experts, rank, in], B is [out, rank, experts].
struct ExpertsStep {
  TensorEntry a;
  TensorEntry b;
  ExpertPart part;
  int64_t experts = 0;
  int64_t rank = 0;
  int64_t in = 0;
  double scale = 1;
};

// values += scale * added
struct AddStep {
  TensorEntry added;
  double scale = 1;
};

// values *= factors[(index / inner) % size] (IA3)
struct ScaleStep {
  TensorEntry factors;
  int64_t inner = 1;
};

// Takes the place of as many leading elements as it has.
struct ReplaceStep {
  TensorEntry values;
};

// Row rows[i] becomes row i of `values`.
struct RowsStep {
  std::vector<int64_t> rows;
  TensorEntry values;
  int64_t columns = 0;
};

// values[row, column] += the value of that place (SHiRA).
struct ScatterStep {
  TensorEntry indices;  // [2, count]: rows, then columns
  TensorEntry values;   // [count]
  int64_t rows = 0;
  int64_t columns = 0;
};

using AdapterStep = std::variant<LowRankStep, ExpertsStep, AddStep, ScaleStep,
                                 ReplaceStep, RowsStep, ScatterStep>;

// What the configuration of a model says differently once an adapter is in it.
struct ConfigChange {
  std::optional<bool> tie_word_embeddings = {};
  std::optional<int64_t> vocab_size = {};
};

// One changed tensor.
struct AdaptedTensor {
  std::vector<int64_t> shape;  // of the base's tensor
  std::vector<AdapterStep> steps;
};

// An adapter as it applies to one base.
struct AdapterPlan {
  std::map<std::string, AdaptedTensor> tensors;
  // Tensors that the base has not, or in another shape; they start from
  // nothing.
  std::vector<TensorSpec> added;
  // A copy of the base's embeddings that becomes the head: (head, embeddings).
  std::optional<std::pair<std::string, std::string>> untied_head = {};
  ConfigChange config;
  // What about it cannot be summed with others, e.g. "DoRA (...)"; else empty.
  std::string not_additive;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_ADAPTER_STEPS_H_
