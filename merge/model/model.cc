#include "merge/model/model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "merge/model/layer_cache.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {

bool Model::Ignores(absl::string_view tensor) const {
  if (parameters().find(tensor) != parameters().end()) return false;
  for (absl::string_view end :
       {".rotary_emb.inv_freq", ".attn.bias", ".attention.bias", ".masked_bias",
        ".position_ids"}) {
    if (absl::EndsWith(tensor, end)) return true;
  }
  return false;
}

std::unique_ptr<Model> Model::ShallowCopy() const {
  std::unique_ptr<Model> copy = MakeEmpty();
  CAIRN_CHECK(copy->Fill(parameters()).ok());
  copy->shared_layers_ = shared_layers_;
  return copy;
}

absl::Status Model::SetParameter(absl::string_view name,
                                 const at::Tensor& value) {
  if (shared_layers_ != nullptr &&
      LayersBefore({std::string(name)}) < shared_layers_->layers()) {
    shared_layers_ = nullptr;
  }
  return table_.Set(name, value);
}

size_t Model::LayersBefore(const std::vector<std::string>& parameters) const {
  const std::vector<ParameterSpec>& specs = parameter_specs();
  const auto first =
      std::find_if(specs.begin(), specs.end(), [&](const ParameterSpec& spec) {
        return std::find(parameters.begin(), parameters.end(), spec.name) !=
               parameters.end();
      });
  const auto index = static_cast<size_t>(first - specs.begin());
  size_t layers = marked_layers();
  while (layers > 0 && layer_begins_[layers] > index) --layers;
  return layers;
}

void Model::ShareLayers(size_t layers, int64_t bytes_max) {
  layers = std::min(layers, marked_layers());
  shared_layers_ =
      layers == 0 ? nullptr : std::make_shared<LayerCache>(layers, bytes_max);
}

at::ScalarType Model::dtype() const {
  return parameters().begin()->second.scalar_type();
}

at::Device Model::device() const {
  return parameters().begin()->second.device();
}

absl::Status CheckIds(const at::Tensor& ids, const TextLimits& limits) {
  if (ids.dim() != 2 || ids.scalar_type() != at::kLong || ids.numel() == 0) {
    return absl::InvalidArgumentError(
        "token ids should be a tensor of int64 of shape [batch, tokens]");
  }
  if (ids.size(1) > limits.longest_input) {
    return absl::InvalidArgumentError(
        absl::StrCat("an input of ", ids.size(1), " tokens; the model takes ",
                     limits.longest_input, " at most"));
  }
  const auto [low, high] = at::aminmax(ids.flatten());
  const int64_t least = low.item<int64_t>(), most = high.item<int64_t>();
  if (least < 0 || most >= limits.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("token id ", least < 0 ? least : most,
                     " is not in the vocabulary of ", limits.vocab_size));
  }
  return absl::OkStatus();
}

void Memory::Layer::Append(const at::Tensor& new_keys,
                           const at::Tensor& new_values) {
  keys = keys.defined() ? at::cat({keys, new_keys}, 2) : new_keys;
  values = values.defined() ? at::cat({values, new_values}, 2) : new_values;
}

absl::StatusOr<Memory> LanguageModel::Encode(const at::Tensor& ids) const {
  return CatchTorch("running the encoder", [&]() -> absl::StatusOr<Memory> {
    CAIRN_RETURN_IF_ERROR(CheckIds(ids, traits_.limits));
    return RunEncoder(ids.to(device()));
  });
}

Memory LanguageModel::RunEncoder(const at::Tensor&) const { return {}; }

absl::StatusOr<at::Tensor> LanguageModel::Hidden(const at::Tensor& ids,
                                                 Memory* memory) const {
  return CatchTorch("running the model", [&]() -> absl::StatusOr<at::Tensor> {
    TextLimits room = traits_.limits;
    if (memory != nullptr) room.longest_input -= memory->length;
    CAIRN_RETURN_IF_ERROR(CheckIds(ids, room));
    at::Tensor hidden = RunLayers(ids.to(device()), memory);
    if (memory != nullptr) memory->length += ids.size(1);
    return hidden;
  });
}

at::Tensor LanguageModel::RunStack(const at::Tensor& ids, Memory* memory,
                                   EmbedIds embed, RunLayer run) const {
  const size_t layers = marked_layers();
  if (memory != nullptr) memory->layers.resize(layers);
  // What follows on something read before is not kept: it hardly comes again.
  LayerCache* cache = shared_layers();
  if (ids.size(0) != 1 || (memory != nullptr && memory->length > 0)) {
    cache = nullptr;
  }
  at::Tensor x;
  size_t next = 0;
  if (cache != nullptr) {
    if (auto known = cache->Find(ids, memory != nullptr)) {
      x = std::move(known->hidden);
      next = cache->layers();
      if (memory != nullptr) {
        std::move(known->memory.begin(), known->memory.end(),
                  memory->layers.begin());
      }
      cache = nullptr;  // nothing to add
    }
  }
  if (!x.defined()) x = embed();
  while (true) {
    if (cache != nullptr && next == cache->layers()) {
      LayerCache::Output output{.hidden = x, .memory = {}};
      if (memory != nullptr) {
        output.memory.assign(
            memory->layers.begin(),
            memory->layers.begin() + static_cast<std::ptrdiff_t>(next));
      }
      cache->Add(ids, std::move(output));
    }
    if (next == layers) return x;
    x = run(next, x, memory == nullptr ? nullptr : &memory->layers[next]);
    ++next;
  }
}

absl::StatusOr<at::Tensor> LanguageModel::Logits(
    const at::Tensor& hidden) const {
  return CatchTorch("running the head", [&]() -> absl::StatusOr<at::Tensor> {
    return RunHead(hidden);
  });
}

absl::StatusOr<at::Tensor> LanguageModel::Forward(const at::Tensor& ids) const {
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor hidden, Hidden(ids));
  return Logits(hidden);
}

absl::StatusOr<at::Tensor> TextClassifier::Classify(
    const ClassifierInput& input) const {
  return CatchTorch("running the model", [&]() -> absl::StatusOr<at::Tensor> {
    CAIRN_RETURN_IF_ERROR(CheckIds(input.ids.unsqueeze(0), traits_.limits));
    return Run(input).to(at::kFloat);
  });
}

absl::StatusOr<at::Tensor> ImageClassifier::Classify(
    const at::Tensor& pixels) const {
  return CatchTorch("running the model", [&]() -> absl::StatusOr<at::Tensor> {
    return Run(pixels.to(device(), dtype())).to(at::kFloat);
  });
}

absl::StatusOr<at::Tensor> ImageTextModel::EmbedText(
    const at::Tensor& ids) const {
  return CatchTorch("running the model", [&]() -> absl::StatusOr<at::Tensor> {
    CAIRN_RETURN_IF_ERROR(CheckIds(ids.unsqueeze(0), text_));
    const at::Tensor vector = RunText(ids.to(device()));
    return vector / vector.norm();
  });
}

absl::StatusOr<at::Tensor> ImageTextModel::EmbedImage(
    const at::Tensor& pixels) const {
  return CatchTorch("running the model", [&]() -> absl::StatusOr<at::Tensor> {
    const at::Tensor vector = RunImage(pixels.to(device(), dtype()));
    return vector / vector.norm();
  });
}

absl::StatusOr<double> ImageTextModel::LogitScale() const {
  return CatchTorch("reading the scale", [&]() -> absl::StatusOr<double> {
    return std::exp(log_scale().to(at::kDouble).item<double>());
  });
}

}  // namespace cairn
