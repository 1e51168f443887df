#include "merge/cli/merge_run.h"

#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/release/release_digest.h"
#include "merge/engine/plan_facts.h"
#include "merge/peft/adapter_effects.h"
#include "merge/recipe/chat_template.h"
#include "merge/recipe/output_config.h"
#include "merge/recipe/recipe_plan.h"
#include "merge/recipe/vocabulary_alignment.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

// The arithmetic's version: another one may give other bytes.
constexpr char kCodeVersion[] = "cairn-merge-3";

std::atomic<bool> is_interrupted = false;

// While it lives, the first SIGINT or SIGTERM asks the merge to stop; a second
// ends the process.
class InterruptGuard {
 public:
  InterruptGuard() {
    struct sigaction action = {};
    action.sa_handler = [](int) { is_interrupted.store(true); };
    action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
    sigaction(SIGINT, &action, &interrupt_);
    sigaction(SIGTERM, &action, &terminate_);
  }
  ~InterruptGuard() {
    sigaction(SIGINT, &interrupt_, nullptr);
    sigaction(SIGTERM, &terminate_, nullptr);
  }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction interrupt_ = {}, terminate_ = {};
};

absl::StatusOr<std::shared_ptr<ModelSource>> OpenDirectory(
    const std::string& label, const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint opened, OpenLocalCheckpoint(directory));
  auto checkpoint = std::make_shared<Checkpoint>(std::move(opened));
  if (!checkpoint->files().contains("config.json")) {
    return absl::NotFoundError(
        absl::StrCat(directory, " has no config.json, so it is no model"));
  }
  const absl::Status config =
      MakeOutputConfig(checkpoint->config_json(), directory, "", -1).status();
  if (!config.ok()) return LocalFault(config);
  CAIRN_ASSIGN_OR_RETURN(ModelSource source,
                         ModelSource::Open(label, std::move(checkpoint)));
  return std::make_shared<ModelSource>(std::move(source));
}

// Statistics of a model: safetensors with tensors of its names.
absl::StatusOr<std::shared_ptr<ModelSource>> OpenStatistics(
    const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(SharedSource file, OpenFileSource(path));
  FileMap files;
  files["model.safetensors"] = std::move(file);
  auto opened = Checkpoint::Open(std::move(files));
  if (!opened.ok()) return LocalFault(Annotate(opened.status(), path));
  CAIRN_ASSIGN_OR_RETURN(ModelSource source,
                         ModelSource::Open(path, std::make_shared<Checkpoint>(
                                                     *std::move(opened))));
  return std::make_shared<ModelSource>(std::move(source));
}

// What decides the bytes of a stage, for taking up an interrupted run: the
// plan, and size and time of the inputs' files.
std::string StageKey(const MergeStage& stage) {
  Hasher hasher;
  hasher.Update(absl::StrCat(kCodeVersion, " ", stage.plan.seed, " ",
                             stage.plan.care.clip_norm.value_or(-1), "\n"));
  for (const auto& source : stage.plan.sources) {
    hasher.Update(absl::StrCat("source ", source->label(), " ",
                               source->effects_digest(), "\n"));
    for (const auto& [path, file] : source->checkpoint()->files()) {
      struct stat facts = {};
      const std::string full = absl::StrCat(source->label(), "/", path);
      (void)stat(full.c_str(), &facts);
      hasher.Update(absl::StrCat(path, " ", file->size(), " ",
                                 facts.st_mtim.tv_sec, ".",
                                 facts.st_mtim.tv_nsec, "\n"));
    }
  }
  for (const PlannedOutput& output : stage.plan.outputs) {
    hasher.Update(
        absl::StrCat(output.name, " ", DTypeName(output.dtype), " ",
                     DTypeName(output.work_dtype), ShapeText(output.shape), " ",
                     output.method == nullptr ? "copy" : output.method->name,
                     " ", static_cast<int>(output.task.profile)));
    for (const auto& [name, value] : output.task.parameters) {
      hasher.Update(absl::StrCat(" ", name, "=", value));
    }
    for (size_t i = 0; i < output.inputs.size(); ++i) {
      hasher.Update(absl::StrCat("\n ", output.inputs[i].source, " ",
                                 output.inputs[i].tensor));
      if (output.method == nullptr) continue;
      hasher.Update(absl::StrCat(" ", output.task.inputs[i].random_key));
      for (const auto& [name, value] : output.task.inputs[i].parameters) {
        hasher.Update(absl::StrCat(" ", name, "=", value));
      }
    }
    hasher.Update("\n");
  }
  return absl::StrCat("{\"key\":\"", hasher.Finish().hex(), "\"}");
}

// Tokenizer, licence and the like among a model's files.
FileMap OtherFiles(const FileMap& files) {
  FileMap other;
  for (const auto& [path, source] : files) {
    if (absl::EndsWith(path, ".safetensors") ||
        absl::EndsWith(path, ".index.json") || path == "config.json" ||
        path == "README.md" || path == kReleaseDocumentFile ||
        !CheckReleaseFile(path).ok()) {
      continue;
    }
    other[path] = source;
  }
  return other;
}

// The digest of a finished model directory, of the tensors' known digests.
absl::StatusOr<std::string> DigestOf(const MergeStage& stage,
                                     const OutputResult& result,
                                     const std::string& directory) {
  v1::TensorManifest tensors;
  for (const PlannedOutput& output : stage.plan.outputs) {
    v1::Tensor& tensor = *tensors.add_tensors();
    tensor.set_name(output.name);
    tensor.set_dtype(std::string(DTypeName(output.dtype)));
    for (int64_t dimension : output.shape) tensor.add_shape(dimension);
    tensor.set_size_bytes(output.spec().size_bytes());
    tensor.set_sha256(result.sha256.at(output.name));
  }
  std::vector<v1::File> files;
  CAIRN_ASSIGN_OR_RETURN(const FileMap found, OpenDirectorySources(directory));
  for (const auto& [path, source] : found) {
    if (!CountsForDigest(path) || !CheckReleaseFile(path).ok()) continue;
    CAIRN_ASSIGN_OR_RETURN(const std::string bytes,
                           ReadAll(*source, int64_t{1} << 30));
    v1::File& file = files.emplace_back();
    file.set_path(path);
    file.set_size_bytes(source->size());
    file.set_sha256(Digest::Of(bytes).hex());
  }
  return ReleaseDigest(tensors, files);
}

absl::Status CheckReplayed(const MergeRecordFile& wanted,
                           const MergeRecordFile& got) {
  for (size_t i = 0; i < wanted.inputs.size(); ++i) {
    if (i < got.inputs.size() &&
        wanted.inputs[i].content == got.inputs[i].content) {
      continue;
    }
    return absl::DataLossError(
        absl::StrCat("input ", wanted.inputs[i].model,
                     " has changed since the merge was recorded"));
  }
  if (wanted.digest == got.digest) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("the merge gave ", got.digest, " and was ", wanted.digest));
}

}  // namespace

std::string MergeRun::AbsolutePath(const std::string& path) const {
  return fs::path(path).is_absolute()
             ? path
             : absl::StrCat(order_.directory, "/", path);
}

absl::StatusOr<MergeRun> MergeRun::Plan(MergeOrder order,
                                        const OutputOptions& options) {
  MergeRun run;
  run.order_ = std::move(order);
  run.device_ = options.device;
  if (run.order_.base.empty()) {
    CAIRN_RETURN_IF_ERROR(run.PlanDocuments(options));
  } else {
    CAIRN_RETURN_IF_ERROR(run.PlanAdapters(options));
  }
  return run;
}

absl::Status MergeRun::PlanDocuments(const OutputOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(
      documents_,
      ParseRecipe(order_.recipe, order_.recipe_label,
                  order_.profile == "mergekit" ? UnknownKeys::kWarn
                                               : UnknownKeys::kRefuse,
                  warnings_));
  document_state_.assign(documents_.size(), 0);
  size_t last = documents_.size() - 1;
  for (size_t i = 0; i < documents_.size(); ++i) {
    if (documents_[i].name.empty()) last = i;
  }
  return PlanDocument(last, options);
}

absl::Status MergeRun::PlanDocument(size_t document,
                                    const OutputOptions& options) {
  const Recipe& recipe = documents_[document];
  if (document_state_[document] == 2) return absl::OkStatus();
  if (document_state_[document] == 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(order_.recipe_label, ": document \"", recipe.name,
                     "\" needs itself: it is among the models of those it is "
                     "made of"));
  }
  document_state_[document] = 1;
  MergeStage stage;
  stage.name = recipe.name;
  AlignedModels aligned;
  const SourceOpener open_alone = [&](const std::string& model) {
    return OpenModel(model, options);
  };
  if (!recipe.tokenizer_source.empty()) {
    CAIRN_ASSIGN_OR_RETURN(aligned, AlignVocabularies(recipe, open_alone));
    warnings_.insert(warnings_.end(), aligned.warnings.begin(),
                     aligned.warnings.end());
  }
  const SourceOpener open = [&](const std::string& model)
      -> absl::StatusOr<std::shared_ptr<ModelSource>> {
    const auto found = aligned.models.find(model);
    if (found != aligned.models.end()) return found->second;
    return OpenModel(model, options);
  };
  CAIRN_ASSIGN_OR_RETURN(
      stage.plan,
      PlanRecipe(recipe,
                 {.seed = order_.seed,
                  .open_statistics =
                      [&](const std::string& path) {
                        return OpenStatistics(AbsolutePath(path));
                      },
                  .profile = order_.profile == "paper"  ? Profile::kPaper
                             : order_.profile == "peft" ? Profile::kPeft
                                                        : Profile::kMergekit,
                  .imitates_mergekit = order_.profile == "mergekit"},
                 open));
  CAIRN_ASSIGN_OR_RETURN(stage.cost, CostOf(stage.plan, options));
  if (aligned.vocab_size.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(
        stage.plan.config_json,
        ApplyToConfig({.vocab_size = aligned.vocab_size},
                      stage.plan.config_json, order_.recipe_label));
  }
  CAIRN_RETURN_IF_ERROR(PlanBeside(recipe, aligned, open, stage));
  std::vector<TensorSpec> tensors;
  for (const PlannedOutput& output : stage.plan.outputs) {
    tensors.push_back(output.spec());
  }
  stage.made.push_back(std::make_shared<ModelSource>(ModelSource::Planned(
      recipe.name, std::move(tensors), stage.plan.config_json, stage.beside)));
  for (MergeStage& earlier : stages_) {
    const auto found = aligned.models.find(earlier.name);
    if (found != aligned.models.end() && found->second != earlier.made[0]) {
      earlier.made.push_back(found->second);
    }
  }
  stages_.push_back(std::move(stage));
  document_state_[document] = 2;
  return absl::OkStatus();
}

absl::Status MergeRun::PlanBeside(const Recipe& recipe,
                                  const AlignedModels& aligned,
                                  const SourceOpener& open, MergeStage& stage) {
  std::shared_ptr<const ModelSource> like = aligned.like;
  if (like == nullptr) like = stage.plan.sources.front();
  if (aligned.like == nullptr && !recipe.base_model.empty()) {
    CAIRN_ASSIGN_OR_RETURN(like, open(recipe.base_model));
  }
  stage.beside = OtherFiles(like->files());
  std::map<std::string, std::string> changed = aligned.files;
  CAIRN_ASSIGN_OR_RETURN(const std::string chat_template,
                         ChooseChatTemplate(recipe, open));
  if (!chat_template.empty()) {
    CAIRN_RETURN_IF_ERROR(
        SetChatTemplate(chat_template, like->files(), changed));
  }
  for (auto& [path, text] : changed) {
    stage.beside[path] = MakeMemorySource(std::move(text));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<ModelSource>> MergeRun::OpenModel(
    const std::string& model, const OutputOptions& options) {
  for (size_t i = 0; i < documents_.size(); ++i) {
    if (documents_[i].name.empty() || documents_[i].name != model) continue;
    CAIRN_RETURN_IF_ERROR(PlanDocument(i, options));
    for (const MergeStage& stage : stages_) {
      if (stage.name == model) return stage.made[0];
    }
  }
  const std::string path = AbsolutePath(model);
  if (fs::exists(path)) return OpenDirectory(path, path);
  const size_t plus = model.rfind('+');
  if (plus != std::string::npos &&
      fs::exists(AbsolutePath(model.substr(0, plus)))) {
    const std::string base = AbsolutePath(model.substr(0, plus));
    const std::string adapter = AbsolutePath(model.substr(plus + 1));
    CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<ModelSource> source,
                           OpenDirectory(base, base));
    CAIRN_ASSIGN_OR_RETURN(AdaptedModel adapted,
                           OpenAdapters(*source, {{adapter, 1.0}}));
    CAIRN_RETURN_IF_ERROR(source->AddEffects(std::move(adapted.effects)));
    return source;
  }
  return absl::NotFoundError(absl::StrCat(
      model,
      " is no directory here; a release of a hub is pulled first, with "
      "`cairn pull`"));
}

absl::Status MergeRun::PlanAdapters(const OutputOptions& options) {
  const std::string base = AbsolutePath(order_.base);
  CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<ModelSource> source,
                         OpenDirectory(base, base));
  std::vector<WeightedAdapter> adapters;
  for (const MergeOrder::Adapter& adapter : order_.adapters) {
    adapters.push_back({AbsolutePath(adapter.path), adapter.weight});
  }
  CAIRN_ASSIGN_OR_RETURN(AdaptedModel adapted, OpenAdapters(*source, adapters));
  CAIRN_RETURN_IF_ERROR(source->AddEffects(std::move(adapted.effects)));
  MergeStage stage;
  stage.beside = OtherFiles(source->files());
  for (const auto& [name, tensor] : source->tensors()) {
    PlannedOutput output;
    output.name = name;
    output.shape = tensor.spec.shape;
    output.dtype = output.work_dtype = tensor.spec.dtype;
    output.inputs.push_back({.source = 0, .tensor = name});
    if (IsNumeric(tensor.spec.dtype)) {
      output.method = FindMethod("passthrough");
      output.task.shape = output.shape;
      output.task.inputs.resize(1);
    }
    stage.plan.outputs.push_back(std::move(output));
  }
  CAIRN_ASSIGN_OR_RETURN(
      stage.plan.config_json,
      ApplyToConfig(adapted.config, source->config_json(), base));
  stage.plan.sources.push_back(std::move(source));
  CAIRN_ASSIGN_OR_RETURN(stage.cost, CostOf(stage.plan, options));
  stages_.push_back(std::move(stage));
  return absl::OkStatus();
}

absl::StatusOr<OutputResult> MergeRun::RunStage(MergeStage& stage,
                                                const std::string& directory,
                                                const LocalFlags& flags) {
  CAIRN_RETURN_IF_ERROR(BindInputs(stage.plan));
  CAIRN_RETURN_IF_ERROR(GatherFacts(stage.plan, stage.cost, &is_interrupted));
  std::vector<TensorSpec> tensors;
  for (const PlannedOutput& output : stage.plan.outputs) {
    tensors.push_back(output.spec());
  }
  CAIRN_ASSIGN_OR_RETURN(
      std::unique_ptr<ModelWriter> writer,
      ModelWriter::Create(directory, tensors, StageKey(stage)));
  ProgressLine line("bytes", !flags.quiet && !flags.no_progress);
  CAIRN_ASSIGN_OR_RETURN(
      OutputResult result,
      RunOutputs(
          stage.plan, stage.cost, *writer,
          {.is_cancelled = &is_interrupted,
           .progress =
               [&](int64_t n) { line.Show(n, stage.cost.bytes_written); },
           .device = device_}));
  if (is_interrupted) {
    return absl::CancelledError("interrupted; the same command goes on");
  }
  CAIRN_RETURN_IF_ERROR(std::move(*writer).Finish());
  CAIRN_RETURN_IF_ERROR(WriteFile(absl::StrCat(directory, "/config.json"),
                                  stage.plan.config_json));
  for (const auto& [path, source] : stage.beside) {
    CAIRN_ASSIGN_OR_RETURN(const std::string bytes,
                           ReadAll(*source, int64_t{1} << 30));
    CAIRN_RETURN_IF_ERROR(WriteFile(absl::StrCat(directory, "/", path), bytes));
  }
  return result;
}

absl::StatusOr<MergeRecordFile> MergeRun::Execute(
    const std::string& out, const LocalFlags& flags,
    const MergeRecordFile* expected) {
  InterruptGuard guard;
  CAIRN_ASSIGN_OR_RETURN(OutputDirectory output, OutputDirectory::Resume(out));
  const auto keep_if_interrupted = [&](const absl::Status& status) {
    if (absl::IsCancelled(status)) std::move(output).Keep();
    return status;
  };
  MergeRecordFile record;
  record.order = order_;
  record.code_version = kCodeVersion;
  for (MergeStage& stage : stages_) {
    const bool is_last = &stage == &stages_.back();
    const std::string directory =
        is_last ? output.path()
                : absl::StrCat(output.path(), "/stages/",
                               Digest::Of(stage.name).hex().substr(0, 16));
    auto result = RunStage(stage, directory, flags);
    if (!result.ok()) return keep_if_interrupted(result.status());
    for (size_t s = 0; s < stage.plan.sources.size(); ++s) {
      record.inputs.push_back(
          {stage.plan.sources[s]->label(), result->sources[s]});
    }
    if (is_last) {
      record.tensors = result->sha256;
      CAIRN_ASSIGN_OR_RETURN(record.digest,
                             DigestOf(stage, *result, directory));
      break;
    }
    CAIRN_ASSIGN_OR_RETURN(Checkpoint made, OpenLocalCheckpoint(directory));
    const auto model = std::make_shared<Checkpoint>(std::move(made));
    for (const std::shared_ptr<ModelSource>& seen : stage.made) {
      CAIRN_RETURN_IF_ERROR(seen->Attach(model));
    }
  }
  if (expected != nullptr) {
    CAIRN_RETURN_IF_ERROR(CheckReplayed(*expected, record));
  }
  std::error_code ignored;
  fs::remove_all(absl::StrCat(output.path(), "/stages"), ignored);
  CAIRN_RETURN_IF_ERROR(
      record.Write(absl::StrCat(output.path(), "/", kRecordFile)));
  CAIRN_RETURN_IF_ERROR(std::move(output).Publish());
  return record;
}

}  // namespace cairn
