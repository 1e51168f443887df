// cairn-compress: the change from a base to a tuned checkpoint as an update.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/checkpoint_delta.h"
#include "core/update/manifest.h"
#include "core/update/position_mask.h"
#include "merge/cli/local_command.h"
#include "merge/compress/change_report.h"
#include "merge/compress/change_source.h"
#include "merge/compress/compress_update.h"
#include "merge/compress/lora_fit.h"
#include "merge/engine/merge_executor.h"
#include "merge/engine/model_identity.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

// Tensors that the table names, worst first.
constexpr size_t kWorstShown = 10;

struct Flags : LocalFlags {
  std::string base;
  std::string tuned;
  std::string adapter;
  std::string encoding;
  std::string values;
  std::string scale = "tensor";
  std::string mask;
  std::optional<double> density;
  int64_t rank = 16;
  int64_t group = 128;
  std::string out;
};

// What was written, and how near it is to what it was made from.
struct Outcome {
  std::string encoding;
  int64_t size_bytes = 0;
  int64_t base_bytes = 0;
  std::vector<TensorFidelity> tensors;  // worst first

  double percent_of_base() const {
    return base_bytes == 0 ? 0
                           : 100.0 * static_cast<double>(size_bytes) /
                                 static_cast<double>(base_bytes);
  }
  double relative_error() const {
    double norm = 0, error = 0;
    for (const TensorFidelity& t : tensors) {
      norm += t.norm * t.norm;
      error += t.error * t.error;
    }
    return norm > 0 ? std::sqrt(error / norm) : 0;
  }
  int64_t kept_elements() const {
    int64_t kept = 0;
    for (const TensorFidelity& t : tensors) kept += t.kept;
    return kept;
  }
  int64_t kept_tensors() const {
    return std::count_if(tensors.begin(), tensors.end(),
                         [](const TensorFidelity& t) { return t.kept > 0; });
  }
};

void TellJson(const Flags& flags, const Outcome& outcome) {
  nlohmann::ordered_json json;
  json["path"] = flags.out;
  json["encoding"] = outcome.encoding;
  json["sizeBytes"] = std::to_string(outcome.size_bytes);
  json["changedElements"] = std::to_string(outcome.kept_elements());
  json["changedTensors"] = std::to_string(outcome.kept_tensors());
  json["percentOfBase"] = outcome.percent_of_base();
  json["relativeError"] = outcome.relative_error();
  json["tensors"] = nlohmann::ordered_json::array();
  for (const TensorFidelity& t : outcome.tensors) {
    json["tensors"].push_back({{"name", t.tensor},
                               {"elements", std::to_string(t.elements)},
                               {"changed", std::to_string(t.changed)},
                               {"kept", std::to_string(t.kept)},
                               {"norm", t.norm},
                               {"relativeError", t.relative_error()},
                               {"cosine", t.cosine()}});
  }
  std::cout << json.dump(2) << "\n";
}

void Tell(const Flags& flags, const Outcome& outcome) {
  if (flags.json) return TellJson(flags, outcome);
  if (flags.quiet) return;
  std::cout << absl::StrFormat(
      "%s: %s, %d bytes, %.3g %% of the base; %d elements of %d tensors kept; "
      "relative error %.3g\n",
      flags.out, outcome.encoding, outcome.size_bytes,
      outcome.percent_of_base(), outcome.kept_elements(),
      outcome.kept_tensors(), outcome.relative_error());
  if (outcome.relative_error() == 0) return;
  std::cout << absl::StrFormat("%-56s %9s %9s %10s %8s\n", "worst tensors",
                               "changed", "kept", "rel. error", "cosine");
  for (size_t i = 0; i < std::min(kWorstShown, outcome.tensors.size()); ++i) {
    const TensorFidelity& t = outcome.tensors[i];
    const auto share = [&](int64_t count) {
      return 100.0 * static_cast<double>(count) /
             static_cast<double>(t.elements);
    };
    std::cout << absl::StrFormat("%-56s %7.2f %% %7.2f %% %10.4g %8.5f\n",
                                 t.tensor, share(t.changed), share(t.kept),
                                 t.relative_error(), t.cosine());
  }
}

// Writes base + adapter to `directory` and opens it.
absl::StatusOr<Checkpoint> ExpandAdapter(const Flags& flags,
                                         const Checkpoint& base,
                                         const ModelIdentity& identity,
                                         const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Update> update,
                         OpenLocalUpdate(flags.adapter, &base));
  CAIRN_RETURN_IF_ERROR(
      Annotate(CheckAgainstBase(*update, identity.tensors, identity.digest),
               flags.adapter));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(directory));
  if (update->form() == Update::Form::kReplacement) {
    CAIRN_RETURN_IF_ERROR(ExpandUpdate(base, *update, directory));
    return OpenLocalCheckpoint(directory);
  }
  const MergeRequest request = {.head = &base,
                                .head_identity = &identity,
                                .inputs = {{.contribution = flags.adapter,
                                            .digest = "",
                                            .base_digest = identity.digest,
                                            .update = update.get(),
                                            .base = &base}},
                                .strategy = "task_arithmetic",
                                .parameters = {},
                                .seed = 0,
                                .device_class = ""};
  CAIRN_RETURN_IF_ERROR(MergeIntoDirectory(request,
                                           {.threads = ThreadsOf(flags)},
                                           directory, flags)
                            .status());
  return OpenLocalCheckpoint(directory);
}

// The compressions of the command line, but for exact ones.
std::optional<Compression> CompressionOf(const Flags& flags) {
  static const auto& kinds = *new std::map<std::string, Compression>{
      {"ternary", Compression::kTernary},
      {"bit", Compression::kBit},
      {"int8", Compression::kInt8},
      {"int4", Compression::kInt4},
      {"low-rank", Compression::kLowRank}};
  if (flags.encoding == "sparse" && flags.values != "exact") {
    return Compression::kSparse;
  }
  const auto found = kinds.find(flags.encoding);
  if (found == kinds.end()) return std::nullopt;
  return found->second;
}

ValueForm ValuesOf(const Flags& flags) {
  for (int form = 0; form < kValueForms; ++form) {
    if (flags.values == ValueFormName(static_cast<ValueForm>(form))) {
      return static_cast<ValueForm>(form);
    }
  }
  return ValueForm::kBF16;
}

// The flags with the defaults of their encoding; those that say nothing about
// it are refused.
absl::StatusOr<Flags> Complete(Flags flags) {
  const std::string& encoding = flags.encoding;
  const bool is_listed = encoding == "sparse" || encoding == "low-rank";
  if (!flags.values.empty() && !is_listed) {
    return absl::InvalidArgumentError(
        "--values is of the encodings sparse and low-rank");
  }
  if (flags.density.has_value() && !is_listed && encoding != "ternary") {
    return absl::InvalidArgumentError(
        "--density is of the encodings sparse, ternary and low-rank");
  }
  if (!flags.mask.empty() &&
      (encoding != "sparse" || flags.values == "exact")) {
    return absl::InvalidArgumentError(
        "--mask is of the encoding sparse, with values other than exact");
  }
  if (flags.values.empty()) {
    flags.values =
        encoding == "sparse" && flags.mask.empty() ? "exact" : "bf16";
  }
  if (encoding == "low-rank" && flags.values == "exact") {
    return absl::InvalidArgumentError(
        "--values exact is of the encoding sparse");
  }
  if (!flags.density.has_value()) {
    flags.density = encoding == "ternary"    ? 0.2
                    : encoding == "low-rank" ? 0.01
                                             : 1.0;
  }
  return flags;
}

// Sparse and dense with the tuned values themselves.
absl::StatusOr<Outcome> WriteExact(const Flags& flags, const Checkpoint& base,
                                   const ModelIdentity& identity,
                                   const std::string& directory) {
  const std::string expanded = directory + "/.expanded";
  CAIRN_ASSIGN_OR_RETURN(Checkpoint tuned,
                         flags.adapter.empty()
                             ? OpenLocalCheckpoint(flags.tuned)
                             : ExpandAdapter(flags, base, identity, expanded));
  CheckpointDeltaOptions options;
  options.base_digest = identity.digest;
  options.encoding =
      flags.encoding == "dense" ? v1::Encoding::DENSE : v1::Encoding::SPARSE;
  options.density = *flags.density;
  options.threads = ThreadsOf(flags);
  ProgressLine line("bytes", !flags.quiet && !flags.no_progress);
  options.progress = [&](int64_t done, int64_t all) { line.Show(done, all); };
  CAIRN_RETURN_IF_ERROR(
      WriteCheckpointDelta(base, tuned,
                           absl::StrCat(directory, "/", kUpdateFile), options)
          .status());
  CAIRN_ASSIGN_OR_RETURN(const auto source, MakeCheckpointChange(base, tuned));
  CAIRN_ASSIGN_OR_RETURN(const auto update, OpenLocalUpdate(directory));
  Outcome outcome;
  CAIRN_ASSIGN_OR_RETURN(
      outcome.tensors,
      MeasureFidelity(*source, *update, base, ThreadsOf(flags)));
  std::error_code ignored;
  fs::remove_all(expanded, ignored);
  return outcome;
}

// Makes the mask or copies the one that is there, opens it and notes its
// digest.
absl::StatusOr<PositionMask> PutMask(const Flags& flags,
                                     const ChangeSource& source,
                                     const std::string& directory,
                                     CompressOptions& options) {
  const std::string path = absl::StrCat(directory, "/", kMaskFile);
  if (flags.mask == "new") {
    CAIRN_RETURN_IF_ERROR(WriteMask(source, path, options));
  } else {
    const std::string from = fs::is_directory(flags.mask)
                                 ? absl::StrCat(flags.mask, "/", kMaskFile)
                                 : flags.mask;
    std::error_code error;
    if (!fs::exists(from, error)) {
      return absl::NotFoundError(absl::StrCat(from, ": there is no mask"));
    }
    fs::copy_file(from, path, error);
    if (error) return SystemError(error.value(), "copy " + from);
  }
  CAIRN_ASSIGN_OR_RETURN(SharedSource file, OpenFileSource(path));
  CAIRN_ASSIGN_OR_RETURN(const std::string digest, FileSha256(*file));
  options.mask_digest = absl::StrCat("sha256:", digest);
  return PositionMask::Open(std::move(file));
}

// The file that was made.
absl::Status WriteUpdate(const Flags& flags, const ChangeSource& source,
                         const Checkpoint& base, const ModelIdentity& identity,
                         const std::string& directory) {
  const std::optional<Compression> kind = CompressionOf(flags);
  if (!kind.has_value()) {
    return WriteFittedLora(source, directory,
                           {.rank = flags.rank,
                            .threads = ThreadsOf(flags),
                            .base_config_json = base.config_json(),
                            .base_path = flags.base});
  }
  CompressOptions options = {
      .base_digest = identity.digest,
      .kind = *kind,
      .density = *flags.density,
      .rank = flags.rank,
      .group = flags.group,
      .sign_scale = flags.scale == "row" ? SignScale::kRow : SignScale::kTensor,
      .values = ValuesOf(flags),
      .threads = ThreadsOf(flags)};
  for (const CheckpointTensor& tensor : base.tensors()) {
    if (IsNumeric(tensor.dtype)) options.base_elements += tensor.elements();
  }
  ProgressLine line("elements", !flags.quiet && !flags.no_progress);
  options.progress = [&](int64_t done, int64_t all) { line.Show(done, all); };
  std::optional<PositionMask> mask;
  if (!flags.mask.empty()) {
    CAIRN_ASSIGN_OR_RETURN(mask, PutMask(flags, source, directory, options));
    options.mask = &*mask;
  }
  return CompressChange(source, absl::StrCat(directory, "/", kUpdateFile),
                        options);
}

absl::StatusOr<Outcome> WriteCompressed(const Flags& flags,
                                        std::shared_ptr<Checkpoint> base,
                                        const ModelIdentity& identity,
                                        const std::string& directory) {
  std::optional<Checkpoint> tuned;
  std::unique_ptr<ChangeSource> source;
  if (flags.adapter.empty()) {
    CAIRN_ASSIGN_OR_RETURN(tuned, OpenLocalCheckpoint(flags.tuned));
    CAIRN_ASSIGN_OR_RETURN(source, MakeCheckpointChange(*base, *tuned));
  } else {
    CAIRN_ASSIGN_OR_RETURN(source,
                           MakeAdapterChange(base, flags.base, flags.adapter));
  }
  CAIRN_RETURN_IF_ERROR(
      WriteUpdate(flags, *source, *base, identity, directory));
  CAIRN_ASSIGN_OR_RETURN(const auto update,
                         OpenLocalUpdate(directory, base.get()));
  Outcome outcome;
  CAIRN_ASSIGN_OR_RETURN(
      outcome.tensors,
      MeasureFidelity(*source, *update, *base, ThreadsOf(flags)));
  return outcome;
}

absl::Status Run(const Flags& given) {
  CAIRN_ASSIGN_OR_RETURN(const Flags flags, Complete(given));
  CAIRN_ASSIGN_OR_RETURN(Checkpoint opened, OpenLocalCheckpoint(flags.base));
  const auto base = std::make_shared<Checkpoint>(std::move(opened));
  CAIRN_ASSIGN_OR_RETURN(ModelIdentity identity,
                         IdentifyModel(*base, ThreadsOf(flags)));
  CAIRN_ASSIGN_OR_RETURN(OutputDirectory output,
                         OutputDirectory::Create(flags.out));
  const bool is_exact = flags.encoding == "dense" || flags.values == "exact";
  absl::StatusOr<Outcome> outcome =
      is_exact ? WriteExact(flags, *base, identity, output.path())
               : WriteCompressed(flags, base, identity, output.path());
  if (!outcome.ok()) return LocalFault(outcome.status());
  CAIRN_ASSIGN_OR_RETURN(const auto update,
                         OpenLocalUpdate(output.path(), base.get()));
  outcome->encoding = v1::Encoding::Kind_Name(update->encoding());
  outcome->base_bytes = base->tensor_bytes();
  CAIRN_ASSIGN_OR_RETURN(const FileMap files,
                         OpenDirectorySources(output.path()));
  for (const auto& [name, file] : files) {
    if (IsUpdateFile(name)) outcome->size_bytes += file->size();
  }
  CAIRN_RETURN_IF_ERROR(std::move(output).Publish());
  Tell(flags, *outcome);
  return absl::OkStatus();
}

void AddEncodingFlags(CLI::App& app, Flags& flags) {
  app.add_option(
         "--encoding", flags.encoding,
         "sparse: listed elements; ternary: signs of each matrix's "
         "largest and a scale; bit: signs and scales; int8, int4: "
         "integers and a scale for each group; low-rank: factors and a "
         "sparse rest; lora: a PEFT adapter, linear layers only; dense: the "
         "tuned tensors, lossless")
      ->required()
      ->check(CLI::IsMember({"sparse", "ternary", "bit", "int8", "int4",
                             "low-rank", "lora", "dense"}));
  app.add_option("--density", flags.density,
                 "the share of elements to keep, those that change most; "
                 "sparse: of the whole model (1: every change), ternary: of "
                 "each matrix (0.2), low-rank: of each matrix's rest (0.01)")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--values", flags.values,
                 "of listed elements; sparse: exact, or f32, f16, bf16, int8; "
                 "low-rank: bf16 or another of them, factors alike")
      ->check(CLI::IsMember({"exact", "f32", "f16", "bf16", "int8"}));
  app.add_option("--mask", flags.mask,
                 "sparse: keep the elements that this mask lists (a file, or "
                 "the update that has it) and only their values; new: make one "
                 "of those that change most, for this update and later ones");
  app.add_option("--rank", flags.rank, "low-rank, lora: the rank")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--group", flags.group,
                 "int8, int4: elements that share a scale; 0: a tensor's")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--scale", flags.scale, "bit: a scale for each tensor or row")
      ->check(CLI::IsMember({"tensor", "row"}))
      ->capture_default_str();
}

int Main(int argc, char** argv) {
  CLI::App app("Turns a fine-tuned checkpoint or an adapter into an update.",
               "cairn compress");
  Flags flags;
  app.add_option("--base", flags.base, "Hugging Face directory of the base")
      ->required();
  auto* from = app.add_option_group("source");
  from->add_option("--tuned", flags.tuned, "directory of the tuned checkpoint");
  from->add_option("--adapter", flags.adapter, "directory of an adapter");
  from->require_option(1);
  AddEncodingFlags(app, flags);
  app.add_option("out", flags.out, "output directory")->required();
  AddLocalFlags(app, flags);
  app.footer(
      "Prints the size and how near the update is, worst tensors first.\n"
      "\nExample:\n  cairn compress --base ./base --tuned ./tuned --encoding "
      "ternary ./update\n");
  return RunLocalCommand(app, argc, argv, flags, [&] { return Run(flags); });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
