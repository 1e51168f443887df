#ifndef CAIRN_MERGE_MODEL_MODEL_H_
#define CAIRN_MERGE_MODEL_MODEL_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// Parameters by the name that they have in the checkpoint.
using ParameterMap = std::map<std::string, at::Tensor, std::less<>>;

// A language model that runs. Its parameters have one type, that of its
// arithmetic (F32, or BF16 with norms, softmax and positions in F32), and lie
// on one device.
//
// A forward pass is made of libtorch operators that write nothing in place:
// with parameters that require gradients it can be differentiated. What it
// computes for a row of a batch depends on that batch's shape; who wants
// scores that depend on the item alone passes one item at a time.
//
// Thread-safe as long as nobody calls SetParameter.
class Model {
 public:
  virtual ~Model() = default;

  // The class of transformers, e.g. "LlamaForCausalLM".
  virtual const std::string& architecture() const = 0;
  virtual int64_t vocab_size() const = 0;
  // Longest input in tokens.
  virtual int64_t longest_input() const = 0;
  // What stands before a text without context; empty when the configuration
  // names no such token.
  virtual const std::vector<int64_t>& prefix_ids() const = 0;

  // Final hidden states [B, T, hidden] of token ids [B, T] (int64, each in
  // [0, vocab_size), 1 <= T <= longest_input; INVALID_ARGUMENT otherwise), each
  // position seeing itself and those before it.
  virtual absl::StatusOr<at::Tensor> Hidden(const at::Tensor& ids) const = 0;
  // Logits [..., vocab] that hidden states [..., hidden] give for the token
  // that follows.
  virtual absl::StatusOr<at::Tensor> Logits(const at::Tensor& hidden) const = 0;
  // Logits of Hidden: [B, T, vocab].
  absl::StatusOr<at::Tensor> Forward(const at::Tensor& ids) const;

  // A tied head is one parameter, under the name of the embeddings.
  virtual const ParameterMap& parameters() const = 0;
  // Replaces a parameter by a tensor of the same shape, which is shared, not
  // copied, unless its type or device differ. NOT_FOUND for an unknown name,
  // INVALID_ARGUMENT with SHAPE_MISMATCH for another shape.
  virtual absl::Status SetParameter(absl::string_view name,
                                    const at::Tensor& value) = 0;
  // A model whose parameters can be replaced on their own; until then they
  // are shared with this one.
  virtual std::unique_ptr<Model> ShallowCopy() const = 0;

  at::ScalarType dtype() const;
  at::Device device() const;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_MODEL_H_
