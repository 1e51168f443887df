#include "merge/eval/image_task.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/continuation.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

using Headers = std::map<std::string, SafetensorsHeader>;

absl::StatusOr<const SafetensorsHeader*> HeaderOf(
    const ClassificationItem& item, const ByteSource& file, Headers& headers) {
  const auto known = headers.find(item.pixel_file);
  if (known != headers.end()) return &known->second;
  absl::StatusOr<SafetensorsHeader> header =
      SafetensorsHeader::Read(file, item.pixel_file);
  if (!header.ok()) return DamagedItem(item, header.status().message());
  return &headers.emplace(item.pixel_file, *std::move(header)).first->second;
}

absl::StatusOr<TensorEntry> FindPixels(const ClassificationItem& item,
                                       const SafetensorsHeader& header) {
  const TensorEntry* entry = header.Find(item.pixel_tensor);
  if (entry == nullptr) {
    return DamagedItem(item,
                       absl::StrCat("`pixel_values`: ", item.pixel_file,
                                    " has no tensor ", item.pixel_tensor));
  }
  if (entry->dtype != DType::kF32 || entry->shape.size() != 3) {
    return DamagedItem(
        item,
        absl::StrCat("`pixel_values`: tensor ", entry->name, " is ",
                     DTypeName(entry->dtype), " ", ShapeText(entry->shape),
                     "; it should be F32 [channels, height, width]"));
  }
  return *entry;
}

absl::StatusOr<std::vector<ClassPrompt>> ReadPrompts(const Suite& suite) {
  const std::string& path = suite.description.classes;
  if (path.empty()) return std::vector<ClassPrompt>();
  const auto file = suite.files.find(path);
  if (file == suite.files.end()) {
    return absl::NotFoundError(
        absl::StrCat("suite ", suite.description.name, " has no file ", path,
                     ", which suite.yaml names as `classes`"));
  }
  return ReadClassPrompts(*file->second, path);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Task>> ImageTask::Create(
    const Suite& suite, std::vector<ClassificationItem> items,
    AnswerKind answer) {
  Headers headers;
  std::vector<Image> images;
  for (ClassificationItem& item : items) {
    if (!item.ids.empty()) {
      return UnfitItem(item,
                       "`input_ids` are a text; the model takes images, which "
                       "`pixel_values` name");
    }
    const auto file = suite.files.find(item.pixel_file);
    if (file == suite.files.end()) {
      return absl::NotFoundError(
          absl::StrCat(item.where, ": `pixel_values`: the suite has no file ",
                       item.pixel_file));
    }
    CAIRN_ASSIGN_OR_RETURN(const SafetensorsHeader* header,
                           HeaderOf(item, *file->second, headers));
    CAIRN_ASSIGN_OR_RETURN(TensorEntry pixels, FindPixels(item, *header));
    images.push_back({std::move(item), file->second, std::move(pixels)});
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<ClassPrompt> prompts, ReadPrompts(suite));
  return std::unique_ptr<Task>(
      new ImageTask(std::move(images), std::move(prompts), answer));
}

absl::Status ImageTask::CheckPrompts(const Model& model) const {
  if (prompts_.empty()) {
    return ReasonedError(
        absl::StatusCode::kUnimplemented, "UNSUPPORTED",
        absl::StrCat(model.architecture(),
                     " classifies by prompts: suite.yaml should name a file "
                     "of them as `classes`"));
  }
  const TextLimits& text = model.image_text()->text();
  for (const ClassPrompt& prompt : prompts_) {
    CAIRN_RETURN_IF_ERROR(
        CheckVocabulary(text, prompt, "input_ids", prompt.ids));
    CAIRN_RETURN_IF_ERROR(CheckInputLength(
        text, prompt, static_cast<int64_t>(prompt.ids.size())));
  }
  return absl::OkStatus();
}

absl::Status ImageTask::CheckImage(const Image& image, const ImageShape& shape,
                                   int64_t labels) const {
  const std::vector<int64_t> wanted = {shape.channels, shape.height,
                                       shape.width};
  if (image.pixels.shape != wanted) {
    return UnfitItem(
        image.item,
        absl::StrCat("`pixel_values` are ", ShapeText(image.pixels.shape),
                     "; the model takes ", ShapeText(wanted)));
  }
  return answer_.Check(image.item, labels);
}

absl::Status ImageTask::CheckFits(const Model& model) const {
  const ImageClassifier* classifier = model.image_classifier();
  const ImageTextModel* zero_shot = model.image_text();
  if (classifier == nullptr && zero_shot == nullptr) {
    return NoHead(model, answer_.kind(), "a model that classifies images");
  }
  if (zero_shot != nullptr) CAIRN_RETURN_IF_ERROR(CheckPrompts(model));
  if (zero_shot == nullptr && !prompts_.empty()) {
    return NoHead(model, answer_.kind(),
                  "a model that takes the prompts of `classes`");
  }
  const ImageShape& shape =
      zero_shot == nullptr ? classifier->image() : zero_shot->image();
  const int64_t labels = zero_shot == nullptr
                             ? classifier->labels()
                             : static_cast<int64_t>(prompts_.size());
  for (const Image& image : images_) {
    CAIRN_RETURN_IF_ERROR(CheckImage(image, shape, labels));
  }
  return absl::OkStatus();
}

absl::StatusOr<at::Tensor> ImageTask::Prepare(const Model& model) const {
  if (prompts_.empty()) return at::Tensor();
  return CatchTorch("reading prompts", [&]() -> absl::StatusOr<at::Tensor> {
    const c10::InferenceMode no_gradients;
    std::vector<at::Tensor> vectors;
    for (const ClassPrompt& prompt : prompts_) {
      CAIRN_ASSIGN_OR_RETURN(
          vectors.emplace_back(),
          model.image_text()->EmbedText(IdTensor(prompt.ids)));
    }
    return at::stack(vectors);
  });
}

absl::StatusOr<at::Tensor> ImageTask::ReadPixels(const Image& image) const {
  const TensorEntry& entry = image.pixels;
  const auto source =
      MakeSliceSource(image.file, entry.begin, entry.end - entry.begin);
  CAIRN_ASSIGN_OR_RETURN(at::Tensor pixels,
                         ReadTensor(*source, entry.dtype, entry.shape));
  if (AllFinite(pixels)) return pixels;
  return DamagedItem(image.item, "`pixel_values` hold a NaN or infinity");
}

absl::StatusOr<at::Tensor> ImageTask::Logits(const Model& model,
                                             const at::Tensor& classes,
                                             const at::Tensor& pixels) const {
  if (prompts_.empty()) return model.image_classifier()->Classify(pixels);
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor vector,
                         model.image_text()->EmbedImage(pixels));
  CAIRN_ASSIGN_OR_RETURN(const double scale, model.image_text()->LogitScale());
  return (at::mv(classes, vector) * scale).to(at::kFloat);
}

absl::StatusOr<ItemScore> ImageTask::Score(const Model& model,
                                           const at::Tensor& prepared,
                                           int64_t item) const {
  const Image& image = images_[static_cast<size_t>(item)];
  return CatchTorch("scoring", [&]() -> absl::StatusOr<ItemScore> {
    const c10::InferenceMode no_gradients;
    CAIRN_ASSIGN_OR_RETURN(const at::Tensor pixels, ReadPixels(image));
    CAIRN_ASSIGN_OR_RETURN(const at::Tensor logits,
                           Logits(model, prepared, pixels));
    return answer_.Score(image.item, logits);
  });
}

std::map<std::string, double> ImageTask::Metrics(
    absl::Span<const ItemScore> scores) const {
  return answer_.Metrics(scores);
}

}  // namespace cairn
