#ifndef CAIRN_MERGE_MODEL_MODEL_H_
#define CAIRN_MERGE_MODEL_MODEL_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/model/parameter_table.h"

namespace cairn {

class ImageClassifier;
class ImageTextModel;
class LanguageModel;
class LayerCache;
class TextClassifier;

// A model that runs. Its parameters have one type, that of its arithmetic
// (F32, or BF16 with norms, softmax and positions in F32), and lie on one
// device. It is made without values and runs once Fill() has set them.
//
// A forward pass overwrites nothing that autograd needs: with parameters that
// require gradients it can be differentiated. What it computes for a row of a
// batch depends on that batch's shape; who wants scores that depend on the
// item alone passes one item at a time.
//
// Thread-safe as long as nobody sets parameters.
class Model {
 public:
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // The class of transformers, e.g. "LlamaForCausalLM".
  const std::string& architecture() const { return architecture_; }

  // What it can do: this, or null. One of them is not null.
  virtual const LanguageModel* language() const { return nullptr; }
  virtual const TextClassifier* text_classifier() const { return nullptr; }
  virtual const ImageClassifier* image_classifier() const { return nullptr; }
  virtual const ImageTextModel* image_text() const { return nullptr; }

  // A tied head is one parameter, under the name of the embeddings.
  const ParameterMap& parameters() const { return table_.values(); }
  // Names and shapes in the order of the network.
  const std::vector<ParameterSpec>& parameter_specs() const {
    return table_.specs();
  }
  // Whether a tensor of a checkpoint is none of the model's and can be passed
  // over: a buffer that older versions of transformers saved.
  virtual bool Ignores(absl::string_view tensor) const;

  // As ParameterTable's.
  absl::Status CheckTensors(const ShapeMap& tensors) const {
    return table_.Check(tensors);
  }
  absl::Status Fill(ParameterMap values) {
    return table_.Fill(std::move(values));
  }
  absl::Status SetParameter(absl::string_view name, const at::Tensor& value);

  // A model whose parameters can be replaced on their own; until then they
  // are shared with this one, which has its values.
  std::unique_ptr<Model> ShallowCopy() const;

  // How many of a decoder's layers come before all of these parameters, as
  // what lies before the layers does; 0 for other models.
  size_t LayersBefore(const std::vector<std::string>& parameters) const;
  // From now on what comes out of the first `layers` layers is kept by input,
  // up to `bytes_max`, and taken from there when the input comes again: here
  // and in copies, until one of their parameters up to there is set. 0: not
  // any more. No result changes by it.
  void ShareLayers(size_t layers, int64_t bytes_max = kSharedBytes);
  // 1,000 inputs of 128 tokens that are 2,048 wide, in F32.
  static constexpr int64_t kSharedBytes = int64_t{1} << 30;

  at::ScalarType dtype() const;
  at::Device device() const;

 protected:
  explicit Model(std::string architecture)
      : architecture_(std::move(architecture)) {}

  // The same model without values.
  virtual std::unique_ptr<Model> MakeEmpty() const = 0;

  // A decoder calls it before it declares the parameters of each layer, and
  // after the last. What comes before the layers is declared before them.
  void MarkLayer() { layer_begins_.push_back(table_.specs().size()); }
  size_t marked_layers() const {
    return layer_begins_.empty() ? 0 : layer_begins_.size() - 1;
  }
  LayerCache* shared_layers() const { return shared_layers_.get(); }

  ParameterTable table_;

 private:
  const std::string architecture_;
  std::vector<size_t> layer_begins_;  // in specs(); one more than layers
  std::shared_ptr<LayerCache> shared_layers_;
};

// What is known of a vocabulary and the inputs over it.
struct TextLimits {
  int64_t vocab_size = 0;
  int64_t longest_input = 0;  // in tokens
};

// Whether token ids [B, T] fit: int64, each in the vocabulary, 1 <= T <=
// longest. INVALID_ARGUMENT otherwise.
absl::Status CheckIds(const at::Tensor& ids, const TextLimits& limits);

// What a language model remembers of the tokens it has seen, so that more can
// follow: keys and values by layer. Copies share tensors and go on apart.
struct Memory {
  struct Layer {
    at::Tensor keys;
    at::Tensor values;

    // Adds those of new positions (dimension 2).
    void Append(const at::Tensor& new_keys, const at::Tensor& new_values);
  };
  std::vector<Layer> layers;
  std::vector<Layer> encoded;  // of the encoder's output
  int64_t length = 0;          // positions seen
};

// Predicts the token that follows. With an encoder, the context goes there and
// the decoder sees decoder_start_id() and what continues the context.
class LanguageModel : public Model {
 public:
  struct Traits {
    TextLimits limits;
    // What stands before a text without context; empty when the configuration
    // names no such token.
    std::vector<int64_t> prefix_ids;
    // Tokens that end a text.
    std::vector<int64_t> end_ids;
    // False where positions depend on the length of the whole input: Hidden
    // cannot go on then.
    bool is_incremental = true;
    bool has_encoder = false;
    int64_t decoder_start_id = 0;
  };

  const LanguageModel* language() const override { return this; }
  const Traits& traits() const { return traits_; }
  int64_t vocab_size() const { return traits_.limits.vocab_size; }
  int64_t longest_input() const { return traits_.limits.longest_input; }

  // With an encoder: reads a context [1, T].
  absl::StatusOr<Memory> Encode(const at::Tensor& ids) const;

  // Final hidden states [B, T, hidden] of token ids [B, T], each position
  // seeing itself and those before it. With `memory` the ids follow what it
  // has seen, and it sees them; with an encoder it comes from Encode().
  // INVALID_ARGUMENT for ids that do not fit.
  absl::StatusOr<at::Tensor> Hidden(const at::Tensor& ids,
                                    Memory* memory = nullptr) const;
  // Logits [..., vocab] that hidden states [..., hidden] give for the token
  // that follows.
  absl::StatusOr<at::Tensor> Logits(const at::Tensor& hidden) const;
  // Logits of Hidden: [B, T, vocab].
  absl::StatusOr<at::Tensor> Forward(const at::Tensor& ids) const;

 protected:
  LanguageModel(std::string architecture, Traits traits)
      : Model(std::move(architecture)), traits_(std::move(traits)) {}

  // As their namesakes, for ids that fit; what libtorch throws is caught.
  virtual Memory RunEncoder(const at::Tensor& ids) const;
  virtual at::Tensor RunLayers(const at::Tensor& ids, Memory* memory) const = 0;
  virtual at::Tensor RunHead(const at::Tensor& hidden) const = 0;

  // Runs the layers that were marked one after the other, the first on what
  // `embed` gives, but for those whose output is shared. `memory` of a layer
  // is null where nothing is remembered.
  using EmbedIds = absl::FunctionRef<at::Tensor()>;
  using RunLayer = absl::FunctionRef<at::Tensor(
      size_t layer, const at::Tensor& x, Memory::Layer* memory)>;
  at::Tensor RunStack(const at::Tensor& ids, Memory* memory, EmbedIds embed,
                      RunLayer run) const;

 private:
  const Traits traits_;
};

// One text for a classifier. The tensors are int64 of one length [T].
struct ClassifierInput {
  at::Tensor ids;
  at::Tensor mask;   // 1: looked at, 0: padding; undefined: all ones
  at::Tensor types;  // segment of each token; undefined: all zero
};

class TextClassifier : public Model {
 public:
  struct Traits {
    TextLimits limits;
    int64_t labels = 0;
    int64_t token_types = 0;  // 0: the model takes none
  };

  const TextClassifier* text_classifier() const override { return this; }
  const Traits& traits() const { return traits_; }
  // Logits [labels], in F32.
  absl::StatusOr<at::Tensor> Classify(const ClassifierInput& input) const;

 protected:
  TextClassifier(std::string architecture, Traits traits)
      : Model(std::move(architecture)), traits_(traits) {}
  virtual at::Tensor Run(const ClassifierInput& input) const = 0;

 private:
  const Traits traits_;
};

// [channels, height, width] of the images that a model takes.
struct ImageShape {
  int64_t channels = 3;
  int64_t height = 0;
  int64_t width = 0;
};

class ImageClassifier : public Model {
 public:
  const ImageClassifier* image_classifier() const override { return this; }
  const ImageShape& image() const { return image_; }
  int64_t labels() const { return labels_; }
  // Logits [labels], in F32, of pixels [channels, height, width].
  absl::StatusOr<at::Tensor> Classify(const at::Tensor& pixels) const;

 protected:
  ImageClassifier(std::string architecture, ImageShape image, int64_t labels)
      : Model(std::move(architecture)), image_(image), labels_(labels) {}
  virtual at::Tensor Run(const at::Tensor& pixels) const = 0;

 private:
  const ImageShape image_;
  const int64_t labels_;
};

// Places images and texts in one space (CLIP).
class ImageTextModel : public Model {
 public:
  const ImageTextModel* image_text() const override { return this; }
  const ImageShape& image() const { return image_; }
  const TextLimits& text() const { return text_; }
  // Unit vectors [width].
  absl::StatusOr<at::Tensor> EmbedText(const at::Tensor& ids) const;
  absl::StatusOr<at::Tensor> EmbedImage(const at::Tensor& pixels) const;
  // What products of unit vectors are multiplied with for logits.
  absl::StatusOr<double> LogitScale() const;

 protected:
  ImageTextModel(std::string architecture, ImageShape image, TextLimits text)
      : Model(std::move(architecture)), image_(image), text_(text) {}
  virtual at::Tensor RunText(const at::Tensor& ids) const = 0;
  virtual at::Tensor RunImage(const at::Tensor& pixels) const = 0;
  // The logarithm, a tensor of one element.
  virtual const at::Tensor& log_scale() const = 0;

 private:
  const ImageShape image_;
  const TextLimits text_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_MODEL_H_
