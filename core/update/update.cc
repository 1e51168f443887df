#include "core/update/update.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
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
#include "core/update/coded_layout.h"
#include "core/update/coded_update.h"
#include "core/update/dense_update.h"
#include "core/update/effects.h"
#include "core/update/lossless_update.h"
#include "core/update/manifest.h"
#include "core/update/peft_update.h"
#include "core/update/position_mask.h"
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

// Every format of cairn-update.safetensors with its versions.
const std::map<std::string, std::set<std::string>>& KnownFormats() {
  static const auto& known = *[] {
    auto* all = new std::map<std::string, std::set<std::string>>{
        {"sparse", {"1"}}, {"dense", {"1", "2"}}};
    for (const CodedFormat& coded : kCodedFormats) {
      (*all)[coded.name].insert(coded.version);
    }
    return all;
  }();
  return known;
}

absl::Status CheckFormat(const std::string& format,
                         const std::string& version) {
  std::map<std::string, std::string> details = {{"file", kUpdateFile}};
  auto known = KnownFormats().find(format);
  if (known == KnownFormats().end()) {
    std::vector<std::string> names;
    for (const auto& [name, versions] : KnownFormats()) names.push_back(name);
    return Refuse("UNKNOWN_FORMAT",
                  absl::StrCat(kUpdateFile, ": __metadata__ cairn.format is ",
                               JsonQuote(format.substr(0, 40)), "; there are ",
                               absl::StrJoin(names, ", ")),
                  std::move(details));
  }
  if (!known->second.contains(version)) {
    return Refuse("UNKNOWN_FORMAT",
                  absl::StrCat(kUpdateFile, ": __metadata__ cairn.version is ",
                               JsonQuote(version.substr(0, 40)), "; of ",
                               format, " this program reads ",
                               absl::StrJoin(known->second, ", ")),
                  std::move(details));
  }
  return absl::OkStatus();
}

// The mask that an update names by digest; none when it names none and none
// stands beside it.
absl::StatusOr<std::optional<PositionMask>> OpenMask(
    SharedSource file, const std::string& digest) {
  const std::map<std::string, std::string> details = {{"file", kMaskFile}};
  if (digest.empty()) {
    if (file == nullptr) return std::optional<PositionMask>();
    return Refuse("MALFORMED_FILE",
                  absl::StrCat(kMaskFile, " stands beside ", kUpdateFile,
                               ", which does not name it in __metadata__ "
                               "cairn.mask"),
                  details);
  }
  if (file == nullptr) {
    return Refuse("MALFORMED_FILE",
                  absl::StrCat(kUpdateFile, " names the mask ",
                               JsonQuote(digest.substr(0, 80)), ", but ",
                               kMaskFile, " is not beside it"),
                  details);
  }
  CAIRN_ASSIGN_OR_RETURN(const std::string measured, FileSha256(*file));
  if (digest != absl::StrCat("sha256:", measured)) {
    return Refuse("MALFORMED_FILE",
                  absl::StrCat(kMaskFile, " is sha256:", measured, ", not ",
                               JsonQuote(digest.substr(0, 80)), ", which ",
                               kUpdateFile, " names"),
                  details);
  }
  CAIRN_ASSIGN_OR_RETURN(PositionMask mask,
                         PositionMask::Open(std::move(file)));
  return std::optional<PositionMask>(std::move(mask));
}

// cairn-update.safetensors: which format, which version, which base.
// `mask` is what stands beside it, or null.
absl::StatusOr<std::unique_ptr<Update>> OpenCairnUpdate(SharedSource file,
                                                        SharedSource mask) {
  CAIRN_ASSIGN_OR_RETURN(SafetensorsHeader header,
                         SafetensorsHeader::Read(*file, kUpdateFile));
  std::map<std::string, std::string> details = {{"file", kUpdateFile}};
  auto text = [&](const char* key) {
    auto it = header.metadata().find(key);
    return it == header.metadata().end() ? std::string() : it->second;
  };
  const std::string format = text("cairn.format");
  const std::string version = text("cairn.version");
  CAIRN_RETURN_IF_ERROR(CheckFormat(format, version));
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
  for (const CodedFormat& coded : kCodedFormats) {
    if (format == coded.name && version == coded.version) {
      CAIRN_ASSIGN_OR_RETURN(const std::optional<PositionMask> opened,
                             OpenMask(std::move(mask), text("cairn.mask")));
      return OpenCodedUpdate(std::move(file), header, coded,
                             opened.has_value() ? &*opened : nullptr);
    }
  }
  CAIRN_RETURN_IF_ERROR(OpenMask(std::move(mask), "").status());
  if (format == "sparse") return OpenSparseUpdate(std::move(file), header);
  return version == "1" ? OpenDenseUpdate(std::move(file), header)
                        : OpenLosslessUpdate(std::move(file), header);
}

// The update without what its author measured.
absl::StatusOr<std::unique_ptr<Update>> OpenAlone(const FileMap& files,
                                                  const BaseModel* base) {
  auto cairn = files.find(kUpdateFile);
  auto config = files.find(kAdapterConfigFile);
  auto weights = files.find(kAdapterWeightsFile);
  auto mask = files.find(kMaskFile);
  const bool is_peft = config != files.end() || weights != files.end();
  if (cairn != files.end() && is_peft) {
    return Refuse("UNKNOWN_FORMAT",
                  absl::StrCat("the update has both ", kUpdateFile,
                               " and files of a PEFT adapter; it must have "
                               "one of them"),
                  {});
  }
  if (cairn != files.end()) {
    return OpenCairnUpdate(cairn->second,
                           mask == files.end() ? nullptr : mask->second);
  }
  if (mask != files.end()) {
    return Refuse("UNKNOWN_FORMAT",
                  absl::StrCat(kMaskFile, " is there without ", kUpdateFile,
                               ", which would say what it is for"),
                  {{"file", kMaskFile}});
  }
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

absl::StatusOr<std::unique_ptr<ChangeReader>> Update::OpenChange(
    absl::string_view) const {
  return absl::FailedPreconditionError("this update carries no differences");
}

absl::Status Update::ReadTuned(absl::string_view, const ByteSource&, int64_t,
                               absl::Span<char>) const {
  return absl::FailedPreconditionError(
      "a PEFT adapter has no replacement values");
}

absl::StatusOr<Effect> Update::OpenEffect(absl::string_view tensor,
                                          const BaseValues& base) const {
  if (Find(tensor) == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("the update does not touch tensor ", JsonQuote(tensor)));
  }
  if (form() == Form::kDifference) {
    CAIRN_ASSIGN_OR_RETURN(auto change, OpenChange(tensor));
    return MakeDifferenceEffect(std::move(change), EffectBytes(tensor));
  }
  if (FactorBytes(tensor) == 0) {
    return MakeReplacementEffect(*this, std::string(tensor), base);
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
  return path == kUpdateFile || path == kMaskFile ||
         path == kAdapterConfigFile || path == kAdapterWeightsFile ||
         path == kStatisticsFile;
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
