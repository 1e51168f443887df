#include "core/update/update.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/digest.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/base_model.h"
#include "core/update/dense_update.h"
#include "core/update/effects.h"
#include "core/update/peft_update.h"
#include "core/update/sparse_update.h"
#include "core/update/update_statistics.h"

namespace cairn {
namespace {

absl::Status Refuse(absl::string_view reason, absl::string_view what,
                    std::map<std::string, std::string> details) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason, what,
                       std::move(details));
}

absl::Status CheckTensor(const TouchedTensor& tensor,
                         const v1::TensorManifest& base) {
  std::map<std::string, std::string> details = {{"tensor", tensor.name}};
  const v1::Tensor* found = FindTensor(base, tensor.name);
  if (found == nullptr) {
    return Refuse(
        "UNKNOWN_TENSOR",
        absl::StrCat("the base has no tensor ", JsonQuote(tensor.name),
                     "; nearest are ", NearestNames(base, tensor.name)),
        std::move(details));
  }
  if (!std::equal(tensor.shape.begin(), tensor.shape.end(),
                  found->shape().begin(), found->shape().end())) {
    return Refuse(
        "SHAPE_MISMATCH",
        absl::StrCat("tensor ", JsonQuote(tensor.name),
                     ": the update is for shape ", ShapeText(tensor.shape),
                     ", the base has ", ShapeText(found->shape())),
        std::move(details));
  }
  auto dtype = ParseDType(found->dtype());
  const bool fits = tensor.dtype.has_value()
                        ? dtype == tensor.dtype
                        : dtype.has_value() && IsNumeric(*dtype);
  if (!fits) {
    return Refuse(
        "DTYPE_MISMATCH",
        absl::StrCat("tensor ", JsonQuote(tensor.name), ": the update has ",
                     tensor.dtype.has_value() ? DTypeName(*tensor.dtype)
                                              : "F32, F16 or BF16",
                     ", the base ", found->dtype()),
        std::move(details));
  }
  return absl::OkStatus();
}

// cairn-update.safetensors: which format, which version, which base.
absl::StatusOr<std::unique_ptr<Update>> OpenCairnUpdate(SharedSource file) {
  CAIRN_ASSIGN_OR_RETURN(SafetensorsHeader header,
                         SafetensorsHeader::Read(*file, kUpdateFile));
  std::map<std::string, std::string> details = {{"file", kUpdateFile}};
  auto text = [&](const char* key) {
    auto it = header.metadata().find(key);
    return it == header.metadata().end() ? std::string() : it->second;
  };
  const std::string format = text("cairn.format");
  if (format != "sparse" && format != "dense") {
    return Refuse("UNKNOWN_FORMAT",
                  absl::StrCat(kUpdateFile, ": __metadata__ cairn.format is ",
                               JsonQuote(format.substr(0, 40)),
                               "; it must be \"sparse\" or \"dense\""),
                  std::move(details));
  }
  const std::string version = text("cairn.version");
  if (version != "1") {
    return Refuse("UNKNOWN_FORMAT",
                  absl::StrCat(kUpdateFile, ": __metadata__ cairn.version is ",
                               JsonQuote(version.substr(0, 40)),
                               "; this program reads \"1\""),
                  std::move(details));
  }
  const std::string base = text("cairn.base");
  if (!absl::StartsWith(base, "sha256:") || !Digest::Parse(base).ok()) {
    return Refuse("MALFORMED_FILE",
                  absl::StrCat(kUpdateFile, ": __metadata__ cairn.base is ",
                               JsonQuote(base.substr(0, 80)),
                               "; it must be \"sha256:\" and 64 hex digits"),
                  std::move(details));
  }
  if (header.tensors().empty()) {
    return Refuse("MALFORMED_FILE",
                  absl::StrCat(kUpdateFile, ": changes no tensor"),
                  std::move(details));
  }
  return format == "sparse" ? OpenSparseUpdate(std::move(file), header)
                            : OpenDenseUpdate(std::move(file), header);
}

// The update without what its author measured.
absl::StatusOr<std::unique_ptr<Update>> OpenAlone(const FileMap& files,
                                                  const BaseModel* base) {
  auto cairn = files.find(kUpdateFile);
  auto config = files.find(kAdapterConfigFile);
  auto weights = files.find(kAdapterWeightsFile);
  const bool is_peft = config != files.end() || weights != files.end();
  if (cairn != files.end() && is_peft) {
    return Refuse("UNKNOWN_FORMAT",
                  absl::StrCat("the update has both ", kUpdateFile,
                               " and files of a PEFT adapter; it must have "
                               "one of them"),
                  {});
  }
  if (cairn != files.end()) return OpenCairnUpdate(cairn->second);
  if (!is_peft) {
    return Refuse("UNKNOWN_FORMAT",
                  absl::StrCat("no update: neither ", kUpdateFile, " nor ",
                               kAdapterConfigFile, " with ",
                               kAdapterWeightsFile, " is there"),
                  {});
  }
  if (config == files.end() || weights == files.end()) {
    const char* missing =
        config == files.end() ? kAdapterConfigFile : kAdapterWeightsFile;
    return Refuse(
        "MALFORMED_FILE",
        absl::StrCat(missing, ": is missing; a PEFT adapter is ",
                     kAdapterConfigFile, " and ", kAdapterWeightsFile),
        {{"file", missing}});
  }
  return PeftUpdate::Open(*config->second, weights->second, base,
                          Vocabulary::kOfTheBase);
}

}  // namespace

Update::Update() = default;
Update::~Update() = default;

void Update::Attach(std::unique_ptr<const UpdateStatistics> statistics) {
  statistics_ = std::move(statistics);
}

absl::StatusOr<LoraFactors> Update::ReadFactors(absl::string_view) const {
  return absl::FailedPreconditionError("this tensor's change has no factors");
}

absl::Status Update::Overlay(absl::string_view, int64_t,
                             absl::Span<char>) const {
  return absl::FailedPreconditionError("a PEFT adapter has no replacement values");
}

absl::StatusOr<Effect> Update::OpenEffect(absl::string_view tensor,
                                          const BaseValues& base) const {
  if (Find(tensor) == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("the update does not touch tensor ", JsonQuote(tensor)));
  }
  if (FactorBytes(tensor) == 0) {
    return MakeOverlayEffect(*this, std::string(tensor), base.dtype);
  }
  CAIRN_ASSIGN_OR_RETURN(LoraFactors factors, ReadFactors(tensor));
  std::vector<LowRankBlock> blocks;
  blocks.push_back(Orient(std::move(factors)));
  return MakeLowRankEffect(std::move(blocks));
}

const TouchedTensor* Update::Find(absl::string_view tensor) const {
  const auto& all = touched();
  auto it = std::lower_bound(all.begin(), all.end(), tensor,
                             [](const TouchedTensor& t, absl::string_view key) {
                               return absl::string_view(t.name) < key;
                             });
  return it == all.end() || it->name != tensor ? nullptr : &*it;
}

absl::StatusOr<std::unique_ptr<Update>> OpenUpdate(const FileMap& files,
                                                   const BaseModel* base) {
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Update> update,
                         OpenAlone(files, base));
  const auto statistics = files.find(kStatisticsFile);
  if (statistics == files.end()) return update;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<UpdateStatistics> opened,
                         UpdateStatistics::Open(statistics->second));
  update->Attach(std::move(opened));
  return update;
}

absl::StatusOr<std::unique_ptr<Update>> OpenUpdateDirectory(
    const std::string& directory, const BaseModel* base) {
  CAIRN_ASSIGN_OR_RETURN(FileMap files, OpenDirectorySources(directory));
  auto update = OpenUpdate(files, base);
  if (!update.ok()) return Annotate(update.status(), directory);
  return update;
}

std::string BaseDigestOf(const FileMap& files) {
  const auto file = files.find(kUpdateFile);
  if (file == files.end()) return "";
  const auto header = SafetensorsHeader::Read(*file->second, kUpdateFile);
  if (!header.ok()) return "";
  const auto base = header->metadata().find("cairn.base");
  return base == header->metadata().end() ? "" : base->second;
}

bool IsUpdateFile(absl::string_view path) {
  return path == kUpdateFile || path == kAdapterConfigFile ||
         path == kAdapterWeightsFile || path == kStatisticsFile;
}

absl::Status CheckAgainstBase(const Update& update,
                              const v1::TensorManifest& base,
                              absl::string_view base_digest) {
  const std::string made_for = update.base_digest();
  if (!made_for.empty() && made_for != base_digest) {
    return ReasonedError(
        absl::StatusCode::kFailedPrecondition, "BASE_DIGEST_MISMATCH",
        absl::StrCat("the update was made for the base ", made_for,
                     ", not for ", base_digest),
        {{"measured", made_for}, {"expected", std::string(base_digest)}});
  }
  for (const TouchedTensor& tensor : update.touched()) {
    CAIRN_RETURN_IF_ERROR(CheckTensor(tensor, base));
  }
  if (update.statistics() == nullptr) return absl::OkStatus();
  return update.statistics()->CheckAgainstBase(base, base_digest);
}

bool IsEmbeddingOrHead(absl::string_view tensor) {
  static constexpr const char* kNames[] = {
      "embed_tokens", "lm_head",         "wte",
      "wpe",          "word_embeddings", "position_embeddings",
      "embed_out",    "embed_in",        "shared",
      "score",        "classifier"};
  const std::string name = absl::StrCat(".", tensor, ".");
  return std::any_of(
      std::begin(kNames), std::end(kNames), [&](const char* part) {
        return absl::StrContains(name, absl::StrCat(".", part, "."));
      });
}

bool TouchesEmbeddingsOrHead(const Update& update) {
  return std::any_of(update.touched().begin(), update.touched().end(),
                     [](const TouchedTensor& tensor) {
                       return IsEmbeddingOrHead(tensor.name);
                     });
}

}  // namespace cairn
