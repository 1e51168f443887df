#include "merge/model/torch_script.h"

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/model/config_reader.h"
#include "merge/model/layers.h"
#include "merge/model/torch_script_graph.h"

namespace cairn {
namespace {

using Graph = std::shared_ptr<const TorchScriptGraph>;

// A graph whose tensors are a model's parameters.
class ScriptedForward {
 public:
  // Declares in `table` what the checkpoint with `tensors` has to have.
  ScriptedForward(Graph graph, const ShapeMap& tensors, ParameterTable& table)
      : graph_(std::move(graph)), tensors_(tensors) {
    const auto& all = graph_->tensors();
    std::map<size_t, const at::Tensor*> of_same;
    for (const auto& tensor : all) {
      if (!IsDeclared(tensor)) continue;
      const at::Tensor* value = table.Declare(tensor.name, tensor.shape);
      of_same.emplace(tensor.same_as, value);
      declared_[tensor.name] = value;
    }
    for (const auto& tensor : all) {
      const auto own = declared_.find(tensor.name);
      const auto tied = of_same.find(tensor.same_as);
      sources_.push_back(own != declared_.end()  ? own->second
                         : tied != of_same.end() ? tied->second
                                                 : &tensor.value);
    }
  }

  const Graph& graph() const { return graph_; }
  const ShapeMap& tensors() const { return tensors_; }

  // Rows [1, T] of token ids with a mask and types, as far as forward has
  // inputs for them; undefined ones are all ones and all zero.
  at::Tensor RunText(const at::Tensor& ids, const at::Tensor& mask,
                     const at::Tensor& types) const {
    std::vector<at::Tensor> inputs = {ids};
    if (graph_->inputs() > 1) {
      inputs.push_back(mask.defined() ? mask : at::ones_like(ids));
    }
    if (graph_->inputs() > 2) {
      inputs.push_back(types.defined() ? types : at::zeros_like(ids));
    }
    return Run(inputs);
  }

  at::Tensor Run(const std::vector<at::Tensor>& inputs) const {
    std::vector<at::Tensor> values;
    const auto& all = graph_->tensors();
    for (size_t i = 0; i < all.size(); ++i) {
      // A checkpoint's counters are loaded as numbers of the arithmetic.
      values.push_back(sources_[i]->to(all[i].dtype));
    }
    return graph_->Run(inputs, values).to(at::kFloat);
  }

 private:
  bool IsDeclared(const TorchScriptGraph::Tensor& tensor) const {
    if (tensors_.contains(tensor.name)) return true;
    const auto& all = graph_->tensors();
    const auto& first = all[tensor.same_as];
    if (!tensor.is_parameter || first.name != tensor.name) return false;
    // Not in the checkpoint, unless under the name of one that is tied to it.
    for (const auto& other : all) {
      if (other.same_as == tensor.same_as && tensors_.contains(other.name)) {
        return false;
      }
    }
    return true;
  }

  const Graph graph_;
  const ShapeMap tensors_;
  std::map<std::string, const at::Tensor*> declared_;
  std::vector<const at::Tensor*> sources_;  // by tensor of the graph
};

class ScriptedLanguage final : public LanguageModel {
 public:
  ScriptedLanguage(std::string architecture, Traits traits, Graph graph,
                   const ShapeMap& tensors)
      : LanguageModel(std::move(architecture), std::move(traits)),
        forward_(std::move(graph), tensors, table_) {}

 private:
  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<ScriptedLanguage>(
        architecture(), traits(), forward_.graph(), forward_.tensors());
  }
  // Logits stand for hidden states: where the head begins is not known.
  at::Tensor RunLayers(const at::Tensor& ids, Memory*) const override {
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < ids.size(0); ++i) {
      rows.push_back(forward_.RunText(ids.narrow(0, i, 1), {}, {}));
      TORCH_CHECK_VALUE(rows.back().dim() == 3 && rows.back().size(0) == 1 &&
                            rows.back().size(1) == ids.size(1) &&
                            rows.back().size(2) == vocab_size(),
                        "torchscript.pt gives ", rows.back().sizes(), " for ",
                        ids.size(1), " tokens; it should be [1, tokens, ",
                        vocab_size(), "]");
    }
    return at::cat(rows);
  }
  at::Tensor RunHead(const at::Tensor& hidden) const override { return hidden; }

  const ScriptedForward forward_;
};

class ScriptedTextClassifier final : public TextClassifier {
 public:
  ScriptedTextClassifier(std::string architecture, Traits traits, Graph graph,
                         const ShapeMap& tensors)
      : TextClassifier(std::move(architecture), traits),
        forward_(std::move(graph), tensors, table_) {}

 private:
  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<ScriptedTextClassifier>(
        architecture(), traits(), forward_.graph(), forward_.tensors());
  }
  at::Tensor Run(const ClassifierInput& input) const override {
    const auto row = [](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.unsqueeze(0) : tensor;
    };
    const at::Tensor logits =
        forward_.RunText(row(input.ids), row(input.mask), row(input.types));
    TORCH_CHECK_VALUE(logits.numel() == traits().labels,
                      "torchscript.pt gives ", logits.sizes(),
                      "; config.json has ", traits().labels, " labels");
    return logits.flatten();
  }

  const ScriptedForward forward_;
};

class ScriptedImageClassifier final : public ImageClassifier {
 public:
  ScriptedImageClassifier(std::string architecture, ImageShape image,
                          int64_t labels, Graph graph, const ShapeMap& tensors)
      : ImageClassifier(std::move(architecture), image, labels),
        forward_(std::move(graph), tensors, table_) {}

 private:
  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<ScriptedImageClassifier>(architecture(), image(),
                                                     labels(), forward_.graph(),
                                                     forward_.tensors());
  }
  at::Tensor Run(const at::Tensor& pixels) const override {
    const at::Tensor logits = forward_.Run({pixels.unsqueeze(0)});
    TORCH_CHECK_VALUE(logits.numel() == labels(), "torchscript.pt gives ",
                      logits.sizes(), "; config.json has ", labels(),
                      " labels");
    return logits.flatten();
  }

  const ScriptedForward forward_;
};

absl::Status CheckInputs(const Graph& graph, size_t most) {
  if (graph->inputs() >= 1 && graph->inputs() <= most) return absl::OkStatus();
  return ReasonedError(
      absl::StatusCode::kUnimplemented, "UNSUPPORTED",
      absl::StrCat("torchscript.pt: forward takes ", graph->inputs(),
                   " inputs; a model of its class has 1 to ", most));
}

// Positions that config.json names, under whichever name; else as many as
// anybody has asked for.
int64_t LongestInput(ConfigReader& reader) {
  for (const char* key : {"max_position_embeddings", "n_positions",
                          "max_seq_len", "max_sequence_length", "seq_length"}) {
    if (reader.Has(key)) return reader.Size(key);
  }
  return int64_t{1} << 28;
}

absl::StatusOr<std::unique_ptr<Model>> MakeScripted(
    const std::string& architecture, ConfigReader reader,
    const ShapeMap& tensors, Graph graph) {
  if (absl::EndsWith(architecture, "ForCausalLM") ||
      absl::EndsWith(architecture, "LMHeadModel")) {
    LanguageModel::Traits traits = ReadTraits(reader, LongestInput(reader));
    // Every text is read whole: the module keeps no memory of what it read.
    traits.is_incremental = false;
    CAIRN_RETURN_IF_ERROR(reader.status());
    CAIRN_RETURN_IF_ERROR(CheckInputs(graph, 2));
    return std::make_unique<ScriptedLanguage>(architecture, std::move(traits),
                                              std::move(graph), tensors);
  }
  if (absl::EndsWith(architecture, "ForSequenceClassification")) {
    const TextClassifier::Traits traits = {
        .limits = {.vocab_size = reader.Size("vocab_size"),
                   .longest_input = LongestInput(reader)},
        .labels = ReadLabels(reader),
        .token_types = graph->inputs() > 2 ? reader.Size("type_vocab_size", 2)
                                           : int64_t{0}};
    CAIRN_RETURN_IF_ERROR(reader.status());
    CAIRN_RETURN_IF_ERROR(CheckInputs(graph, 3));
    return std::make_unique<ScriptedTextClassifier>(architecture, traits,
                                                    std::move(graph), tensors);
  }
  if (absl::EndsWith(architecture, "ForImageClassification")) {
    ImageShape image;
    image.channels = reader.Size("num_channels", 3);
    std::tie(image.height, image.width) = ReadExtent(reader, "image_size", 224);
    const int64_t labels = ReadLabels(reader);
    CAIRN_RETURN_IF_ERROR(reader.status());
    CAIRN_RETURN_IF_ERROR(CheckInputs(graph, 1));
    return std::make_unique<ScriptedImageClassifier>(
        architecture, image, labels, std::move(graph), tensors);
  }
  return UnsupportedConfig(absl::StrCat(
      "architecture ", architecture,
      " does not run as TorchScript; classes whose names end in ForCausalLM, "
      "LMHeadModel, ForSequenceClassification or ForImageClassification do"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeTorchScript(
    absl::string_view config_json, const ShapeMap& tensors, SharedSource file) {
  CAIRN_ASSIGN_OR_RETURN(const std::string architecture,
                         ArchitectureOf(config_json));
  CAIRN_ASSIGN_OR_RETURN(const ConfigReader config,
                         ConfigReader::Parse(config_json));
  CAIRN_ASSIGN_OR_RETURN(Graph graph, TorchScriptGraph::Load(std::move(file)));
  return MakeScripted(architecture, config, tensors, std::move(graph));
}

}  // namespace cairn
