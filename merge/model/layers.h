#ifndef CAIRN_MERGE_MODEL_LAYERS_H_
#define CAIRN_MERGE_MODEL_LAYERS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/model/config_reader.h"
#include "merge/model/model.h"
#include "merge/model/parameter_table.h"

namespace cairn {

// The building blocks of every family. They point into the model's
// ParameterTable, so that a replaced parameter takes effect at once.

// y = x W^T + b, or x W + b where the checkpoint stores [in, out]. x is rounded
// to the type of W, and so is y, which the kernels keep in F32.
struct Linear {
  const at::Tensor* weight = nullptr;
  const at::Tensor* bias = nullptr;  // null: none
  bool is_in_out = false;
  at::Tensor operator()(const at::Tensor& x) const;
};

// (x - mean) / deviation * gain + bias over the last dimension, in F32.
struct LayerNorm {
  const at::Tensor* gain = nullptr;
  const at::Tensor* bias = nullptr;
  int64_t width = 0;
  double epsilon = 1e-5;
  at::Tensor operator()(const at::Tensor& x) const;
};

// x / root mean square * gain, in F32. Gemma's gains are stored less one.
struct RmsNorm {
  const at::Tensor* gain = nullptr;
  double epsilon = 1e-6;
  bool adds_one = false;
  at::Tensor operator()(const at::Tensor& x) const;
};

// Rows of a table of embeddings, in F32: what layers add up is not rounded.
at::Tensor Embed(const at::Tensor& table, const at::Tensor& ids);

using Activation = at::Tensor (*)(const at::Tensor& x);

// By transformers' name, e.g. "gelu_new". UNIMPLEMENTED naming `key` of
// config.json for one that is not known here.
absl::StatusOr<Activation> FindActivation(absl::string_view key,
                                          absl::string_view name);

// activation(gate) * up, of tensors [B, T, width].
at::Tensor ActivateGate(Activation activation, const at::Tensor& gate,
                        const at::Tensor& up);

// Whether x is computed on by the kernels of merge/kernel, which leave nothing
// behind for autograd to go back through.
bool RunsOnKernels(const at::Tensor& x);

// [B, T, heads * dim] as [B, heads, T, dim].
at::Tensor SplitHeads(const at::Tensor& x, int64_t heads);

// Embeddings [1, patches, hidden] of an image [channels, height, width]: one
// convolution whose windows lie side by side. `bias` may be null.
at::Tensor PatchEmbeddings(const at::Tensor& pixels, const at::Tensor& weight,
                           const at::Tensor* bias);

// Declares parameters under a common prefix of their names.
class ParameterScope {
 public:
  enum class Bias { kNone, kOne };

  ParameterScope(ParameterTable& table, std::string prefix)
      : table_(table), prefix_(std::move(prefix)) {}

  // "prefix" + name + "."; with an index "prefix" + name + ".3."
  ParameterScope Under(absl::string_view name) const;
  ParameterScope Under(absl::string_view name, int64_t index) const;

  const at::Tensor* Tensor(absl::string_view name,
                           std::vector<int64_t> shape) const;
  Linear MakeLinear(absl::string_view name, int64_t in, int64_t out,
                    Bias bias) const;
  // GPT-2's Conv1D: the weight is stored [in, out].
  Linear MakeConv1d(absl::string_view name, int64_t in, int64_t out) const;
  LayerNorm MakeLayerNorm(absl::string_view name, int64_t width,
                          double epsilon) const;
  RmsNorm MakeRmsNorm(absl::string_view name, int64_t width,
                      double epsilon) const;

 private:
  ParameterTable& table_;
  const std::string prefix_;
};

// What every language model's configuration says: vocabulary, and the tokens
// that begin and end a text.
LanguageModel::Traits ReadTraits(ConfigReader& config, int64_t longest_input);

// Number of classes: that of `id2label`, else `num_labels`, else 2.
int64_t ReadLabels(ConfigReader& config);

// Height and width: one number for both, or a list of the two.
std::pair<int64_t, int64_t> ReadExtent(ConfigReader& config, const char* key,
                                       int64_t fall_back);

// Keeps a fault when `width` cannot be cut into the heads that `key` gives.
void CheckHeads(ConfigReader& config, const char* key, int64_t width,
                int64_t heads);

// `prefix` when the checkpoint's names have it, or there is no checkpoint;
// nothing where they all lack it, as in files of a model without its head.
std::string PrefixInUse(const ShapeMap& tensors, const std::string& prefix);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_LAYERS_H_
