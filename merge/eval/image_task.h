#ifndef CAIRN_MERGE_EVAL_IMAGE_TASK_H_
#define CAIRN_MERGE_EVAL_IMAGE_TASK_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor/safetensors.h"
#include "merge/eval/answer_kind.h"
#include "merge/eval/items.h"
#include "merge/eval/suite.h"
#include "merge/eval/task.h"

namespace cairn {

// The class, or the number, that a model finds for an image: of its own head,
// or, zero-shot, the class whose prompt lies nearest. Ties go to the first
// class.
class ImageTask final : public Task {
 public:
  // Checks that every item's pixels are there, F32 and of three dimensions.
  static absl::StatusOr<std::unique_ptr<Task>> Create(
      const Suite& suite, std::vector<ClassificationItem> items,
      AnswerKind answer);

  int64_t size() const override { return static_cast<int64_t>(images_.size()); }
  absl::Status CheckFits(const Model& model) const override;
  int64_t Cost(int64_t) const override { return 1; }
  // Zero-shot: the classes' vectors, [classes, width].
  absl::StatusOr<at::Tensor> Prepare(const Model& model) const override;
  absl::StatusOr<ItemScore> Score(const Model& model,
                                  const at::Tensor& prepared,
                                  int64_t item) const override;
  std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const override;

 private:
  struct Image {
    ClassificationItem item;
    SharedSource file;
    TensorEntry pixels;
  };

  ImageTask(std::vector<Image> images, std::vector<ClassPrompt> prompts,
            AnswerKind answer)
      : images_(std::move(images)),
        prompts_(std::move(prompts)),
        answer_(answer) {}

  absl::Status CheckPrompts(const Model& model) const;
  absl::Status CheckImage(const Image& image, const ImageShape& shape,
                          int64_t labels) const;
  absl::StatusOr<at::Tensor> ReadPixels(const Image& image) const;
  absl::StatusOr<at::Tensor> Logits(const Model& model,
                                    const at::Tensor& classes,
                                    const at::Tensor& pixels) const;

  const std::vector<Image> images_;
  const std::vector<ClassPrompt> prompts_;  // empty: the model has a head
  const AnswerKind answer_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_IMAGE_TASK_H_
