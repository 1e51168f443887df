#include "merge/train/training_run.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/update/checkpoint_delta.h"
#include "merge/train/loss_gradient.h"
#include "merge/train/sparse_tuning.h"
#include "merge/train/subject.h"
#include "merge/train/training_output.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

// More lanes let more threads work at once, and hold a gradient each.
constexpr int64_t kLanesMax = 8;
constexpr char kStateFile[] = "state.safetensors";

absl::Status Interrupted(const std::string& out) {
  return absl::CancelledError(absl::StrCat(
      "interrupted; the same command goes on from ", out, ".partial"));
}

absl::Status CheckOut(const std::string& out) {
  std::error_code error;
  if (fs::exists(out, error) && !fs::is_empty(out, error)) {
    return absl::FailedPreconditionError(
        absl::StrCat(out, ": is there already and not empty"));
  }
  return absl::OkStatus();
}

// Everything between the request and its files.
class TrainingRun {
 public:
  TrainingRun(const TrainRequest& request, std::stop_token stop,
              const std::function<void(const TrainProgress&)>& progress)
      : request_(request),
        stop_(std::move(stop)),
        progress_(progress),
        partial_(request.out + ".partial") {}

  absl::StatusOr<TrainReport> Run() {
    CAIRN_RETURN_IF_ERROR(CheckOut(request_.out));
    CAIRN_ASSIGN_OR_RETURN(subject_, Subject::Load(request_));
    CAIRN_ASSIGN_OR_RETURN(
        TokenCorpus data,
        TokenCorpus::Load(request_.data, subject_->model().vocab_size()));
    data_.emplace(std::move(data));
    recipe_ =
        RecipeJson(MakeRecipe(request_, data_->digest(), subject_->digest()));
    CAIRN_RETURN_IF_ERROR(MakeDirectory(partial_));
    CAIRN_RETURN_IF_ERROR(MakeTuning());
    CAIRN_RETURN_IF_ERROR(Train());
    CAIRN_RETURN_IF_ERROR(WriteOutput());
    return Report();
  }

 private:
  int64_t lanes() const { return std::min(request_.trainer.batch, kLanesMax); }

  absl::Status MakeTuning() {
    std::vector<TunedWeight> weights = subject_->WeightsToTune(request_);
    if (weights.empty()) {
      return absl::InvalidArgumentError(
          "no weight of the model is to be trained: see --target");
    }
    switch (request_.method) {
      case TuningMethod::kFull:
        tuning_ = MakeFullTuning(std::move(weights));
        return absl::OkStatus();
      case TuningMethod::kLora: {
        LowRankOptions options = request_.low_rank;
        options.seed = request_.trainer.seed;
        CAIRN_ASSIGN_OR_RETURN(
            auto tuning, LowRankTuning::Create(std::move(weights), options));
        low_rank_ = tuning.get();
        tuning_ = std::move(tuning);
        return absl::OkStatus();
      }
      case TuningMethod::kSparse: {
        CAIRN_ASSIGN_OR_RETURN(std::vector<int64_t> mask, FisherMask(weights));
        CAIRN_ASSIGN_OR_RETURN(
            tuning_, SparseTuning::Create(std::move(weights), std::move(mask)));
        return absl::OkStatus();
      }
    }
    return absl::InternalError("unknown method");
  }

  // Not kept in the state: it comes out the same when it is made again.
  absl::StatusOr<std::vector<int64_t>> FisherMask(
      const std::vector<TunedWeight>& weights) {
    const auto whole = MakeFullTuning(weights);
    LossGradient gradient(subject_->forward(), *whole, lanes(),
                          request_.threads);
    std::vector<float> fisher(whole->weight_count());
    for (int64_t i = 0; i < request_.fisher_batches; ++i) {
      if (stop_.stop_requested()) return Interrupted(request_.out);
      CAIRN_RETURN_IF_ERROR(gradient.AddSquares(
          DrawWindows(*data_, request_.trainer, kFisherStream, i),
          absl::MakeSpan(fisher)));
    }
    const auto count = static_cast<int64_t>(
        request_.density * static_cast<double>(subject_->parameters()));
    if (count < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("density ", request_.density, " of ",
                       subject_->parameters(), " parameters trains none"));
    }
    return LargestPositions(fisher, count);
  }

  absl::Status Train() {
    LossGradient gradient(subject_->forward(), *tuning_, lanes(),
                          request_.threads);
    Trainer trainer(*tuning_, gradient, *data_, request_.trainer);
    const std::string state = absl::StrCat(partial_, "/", kStateFile);
    const std::string mark = Digest::Of(recipe_).hex();
    if (fs::exists(state)) CAIRN_RETURN_IF_ERROR(trainer.Restore(state, mark));
    first_step_ = trainer.step();
    absl::Time saved = absl::Now();
    while (!trainer.done()) {
      CAIRN_ASSIGN_OR_RETURN(const double loss, trainer.Step());
      Tell(trainer.step(), loss);
      const bool stopping = stop_.stop_requested();
      if (stopping || absl::Now() - saved > request_.checkpoint_interval) {
        CAIRN_RETURN_IF_ERROR(trainer.Save(state, mark));
        saved = absl::Now();
      }
      if (stopping) return Interrupted(request_.out);
    }
    return absl::OkStatus();
  }

  void Tell(int64_t step, double loss) {
    loss_ = loss_ == 0 ? loss : loss_ + 0.05 * (loss - loss_);
    const double tokens =
        static_cast<double>((step - first_step_) * request_.trainer.batch *
                            request_.trainer.window);
    progress_({.step = step,
               .steps = request_.trainer.schedule.steps,
               .loss = loss_,
               .tokens_per_second = tokens / seconds()});
  }

  double seconds() const {
    return absl::ToDoubleSeconds(absl::Now() - started_);
  }

  absl::Status WriteOutput() {
    const TrainedValues trained = [this](absl::string_view name) {
      for (const TunedWeight& weight : tuning_->weights()) {
        if (weight.name == name) {
          return absl::Span<const float>(FloatsOf(weight.tensor));
        }
      }
      return absl::Span<const float>();
    };
    switch (request_.method) {
      case TuningMethod::kFull:
        CAIRN_RETURN_IF_ERROR(
            request_.model.empty()
                ? WriteNewCheckpoint(request_.init_config, subject_->tensors(),
                                     trained, partial_)
                : WriteTunedCheckpoint(*subject_->checkpoint(), trained,
                                       partial_));
        break;
      case TuningMethod::kLora:
        CAIRN_RETURN_IF_ERROR(WriteAdapter(low_rank_->factors(),
                                           request_.low_rank, request_.targets,
                                           request_.model, partial_));
        break;
      case TuningMethod::kSparse:
        CAIRN_RETURN_IF_ERROR(WriteSparse(trained));
        break;
    }
    CAIRN_RETURN_IF_ERROR(WriteFile(partial_ + "/recipe.json", recipe_));
    std::error_code error;
    fs::remove(absl::StrCat(partial_, "/", kStateFile), error);
    fs::remove(request_.out, error);  // an empty directory
    fs::rename(partial_, request_.out, error);
    return error ? SystemError(error.value(),
                               absl::StrCat("rename to ", request_.out))
                 : absl::OkStatus();
  }

  absl::Status WriteSparse(const TrainedValues& trained) {
    const std::string tuned =
        request_.tuned_out.empty() ? partial_ + "/tuned" : request_.tuned_out;
    CAIRN_RETURN_IF_ERROR(MakeDirectory(tuned));
    CAIRN_RETURN_IF_ERROR(
        WriteTunedCheckpoint(*subject_->checkpoint(), trained, tuned));
    CAIRN_ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                           Checkpoint::OpenDirectory(tuned));
    CheckpointDeltaOptions options;
    options.base_digest = subject_->digest();
    options.encoding = v1::Encoding::SPARSE;
    CAIRN_RETURN_IF_ERROR(
        WriteCheckpointDelta(*subject_->checkpoint(), checkpoint,
                             partial_ + "/cairn-update.safetensors", options)
            .status());
    std::error_code error;
    if (request_.tuned_out.empty()) fs::remove_all(tuned, error);
    return absl::OkStatus();
  }

  TrainReport Report() const {
    TrainReport report{
        .out = request_.out,
        .steps = request_.trainer.schedule.steps,
        .trained_parameters = static_cast<int64_t>(tuning_->values().size()),
        .model_parameters = subject_->parameters(),
        .size_bytes = 0,
        .loss = loss_,
        .seconds = seconds()};
    for (const auto& entry : fs::directory_iterator(request_.out)) {
      report.size_bytes += static_cast<int64_t>(entry.file_size());
    }
    return report;
  }

  const TrainRequest& request_;
  const std::stop_token stop_;
  const std::function<void(const TrainProgress&)>& progress_;
  const std::string partial_;
  const absl::Time started_ = absl::Now();
  std::unique_ptr<Subject> subject_;
  std::optional<TokenCorpus> data_;
  std::unique_ptr<Tuning> tuning_;
  LowRankTuning* low_rank_ = nullptr;  // tuning_, when the method is lora
  std::string recipe_;
  int64_t first_step_ = 0;
  double loss_ = 0;
};

}  // namespace

absl::StatusOr<TrainReport> RunTraining(
    const TrainRequest& request, std::stop_token stop,
    const std::function<void(const TrainProgress&)>& progress) {
  return TrainingRun(request, std::move(stop), progress).Run();
}

}  // namespace cairn
