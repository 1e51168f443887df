#include "merge/train/trainer.h"

#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"

namespace cairn {
namespace {

constexpr char kValues[] = "values";
constexpr char kFirst[] = "first_moment";
constexpr char kSecond[] = "second_moment";

absl::Status WriteFloats(SafetensorsWriter& writer, const char* name,
                         absl::Span<const float> floats) {
  return writer.Write(
      name, 0,
      absl::MakeConstSpan(reinterpret_cast<const char*>(floats.data()),
                          floats.size() * sizeof(float)));
}

absl::Status ReadFloats(const ByteSource& file, const SafetensorsHeader& header,
                        const char* name, absl::Span<float> floats) {
  const TensorEntry* entry = header.Find(name);
  const auto bytes = static_cast<int64_t>(floats.size() * sizeof(float));
  if (entry == nullptr || entry->dtype != DType::kF32 ||
      entry->end - entry->begin != bytes) {
    return absl::DataLossError(absl::StrCat("tensor ", name, " must be F32 of ",
                                            floats.size(), " elements"));
  }
  return file.ReadAt(entry->begin,
                     absl::MakeSpan(reinterpret_cast<char*>(floats.data()),
                                    static_cast<size_t>(bytes)));
}

}  // namespace

LossGradient::Windows DrawWindows(const TokenCorpus& data,
                                  const TrainerOptions& options,
                                  uint64_t stream, int64_t step) {
  const CounterRandom random(options.seed, stream);
  LossGradient::Windows windows;
  for (int64_t i = 0; i < options.batch; ++i) {
    windows.push_back(
        data.Window(random, static_cast<uint64_t>(step * options.batch + i),
                    options.window));
  }
  return windows;
}

Trainer::Trainer(Tuning& tuning, LossGradient& gradient,
                 const TokenCorpus& data, const TrainerOptions& options)
    : options_(options),
      tuning_(tuning),
      gradient_(gradient),
      data_(data),
      optimizer_(options.optimizer, tuning.values().size(), tuning.decayed()),
      weight_gradient_(tuning.weight_count()),
      value_gradient_(tuning.values().size()) {}

absl::StatusOr<double> Trainer::Step() {
  const auto windows = DrawWindows(data_, options_, kTrainingStream, step_);
  CAIRN_ASSIGN_OR_RETURN(
      const double loss,
      gradient_.Compute(windows, absl::MakeSpan(weight_gradient_)));
  tuning_.Reduce(weight_gradient_, absl::MakeSpan(value_gradient_));
  ClipNorm(options_.norm_max, absl::MakeSpan(value_gradient_));
  ++step_;
  optimizer_.Step(LearningRate(options_.schedule, step_), step_,
                  value_gradient_, tuning_.values());
  tuning_.Apply();
  return loss;
}

absl::Status Trainer::Save(const std::string& path, const std::string& recipe) {
  const auto count = static_cast<int64_t>(tuning_.values().size());
  CAIRN_ASSIGN_OR_RETURN(
      auto writer, SafetensorsWriter::Create(
                       path,
                       {{kValues, DType::kF32, {count}},
                        {kFirst, DType::kF32, {count}},
                        {kSecond, DType::kF32, {count}}},
                       {{"recipe", recipe}, {"step", absl::StrCat(step_)}}));
  CAIRN_RETURN_IF_ERROR(WriteFloats(*writer, kValues, tuning_.values()));
  CAIRN_RETURN_IF_ERROR(WriteFloats(*writer, kFirst, optimizer_.first()));
  CAIRN_RETURN_IF_ERROR(WriteFloats(*writer, kSecond, optimizer_.second()));
  return std::move(*writer).Finish();
}

absl::Status Trainer::Restore(const std::string& path,
                              const std::string& recipe) {
  CAIRN_ASSIGN_OR_RETURN(const auto file, OpenFileSource(path));
  CAIRN_ASSIGN_OR_RETURN(const auto header,
                         SafetensorsHeader::Read(*file, path));
  const auto& metadata = header.metadata();
  const auto marked = metadata.find("recipe");
  if (marked == metadata.end() || marked->second != recipe) {
    return absl::FailedPreconditionError(absl::StrCat(
        path,
        ": belongs to a run of another recipe or data; finish that one "
        "with its own flags, or remove its directory"));
  }
  const auto step = metadata.find("step");
  if (step == metadata.end() || !absl::SimpleAtoi(step->second, &step_)) {
    return absl::DataLossError(absl::StrCat(path, ": names no step"));
  }
  for (const auto& [name, floats] : std::map<const char*, absl::Span<float>>{
           {kValues, tuning_.values()},
           {kFirst, optimizer_.first()},
           {kSecond, optimizer_.second()}}) {
    CAIRN_RETURN_IF_ERROR(
        Annotate(ReadFloats(*file, header, name, floats), path));
  }
  tuning_.Apply();
  return absl::OkStatus();
}

}  // namespace cairn
