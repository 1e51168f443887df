#include "merge/peft/adapter_effects.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/digest.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/byte_source.h"
#include "core/update/base_model.h"
#include "core/update/effects.h"
#include "core/update/manifest.h"
#include "core/update/peft_update.h"
#include "merge/engine/model_identity.h"

namespace cairn {
namespace {

// What one adapter does to its base.
struct AdapterChanges {
  std::map<std::string, Effect> effects;
  std::vector<TensorSpec> added;  // see ModelEffects
  ConfigChange config;
  // What about it cannot be summed with others, e.g. "DoRA"; else empty.
  std::string not_additive;
};

// One adapter on its base.
struct Opened {
  std::string directory;
  double weight = 1.0;
  std::string digest;
  AdapterChanges changes;
};

// Factors are read when a tensor's turn comes, so that adapters of any size
// take no more memory than those of a few tensors.
absl::Status OpenEffects(const ModelSource& base, const std::string& directory,
                         const std::shared_ptr<const Update>& update,
                         AdapterChanges& changes) {
  for (const TouchedTensor& touched : update->touched()) {
    // A tensor that is new or has another shape starts from nothing.
    const bool is_added = std::any_of(
        changes.added.begin(), changes.added.end(),
        [&](const TensorSpec& spec) { return spec.name == touched.name; });
    const SourceTensor* tensor = base.Find(touched.name);
    BaseValues values;
    std::shared_ptr<const ByteSource> bytes;
    if (tensor != nullptr && !is_added) {
      CAIRN_ASSIGN_OR_RETURN(bytes,
                             base.checkpoint()->OpenTensor(touched.name));
      values = {.dtype = tensor->spec.dtype, .bytes = bytes.get()};
    }
    changes.effects[touched.name] = MakeDeferredEffect(
        [directory, update, name = touched.name, values,
         bytes]() -> absl::StatusOr<Effect> {
          auto effect = update->OpenEffect(name, values);
          if (effect.ok()) return effect;
          return Annotate(effect.status(), directory);
        },
        update->EffectBytes(touched.name));
  }
  return absl::OkStatus();
}

// A Cairn update: the base has to be the one that it names.
absl::StatusOr<AdapterChanges> OpenCairnUpdate(const ModelSource& base,
                                               const std::string& directory,
                                               const FileMap& files) {
  auto opened = OpenUpdate(files);
  if (!opened.ok()) return opened.status();
  const std::shared_ptr<const Update> update = *std::move(opened);
  CAIRN_ASSIGN_OR_RETURN(const ModelIdentity identity,
                         IdentifyModel(*base.checkpoint(), 1));
  CAIRN_RETURN_IF_ERROR(
      CheckAgainstBase(*update, identity.tensors, identity.digest));
  CAIRN_RETURN_IF_ERROR(update->CheckFinite());
  AdapterChanges changes;
  CAIRN_RETURN_IF_ERROR(OpenEffects(base, directory, update, changes));
  return changes;
}

// A PEFT adapter, whose shapes win over those of the base.
absl::StatusOr<AdapterChanges> OpenPeftAdapter(const ModelSource& base,
                                               const std::string& directory,
                                               const ByteSource& config,
                                               const SharedSource& weights) {
  const auto header = SafetensorsHeader::Read(*weights, kAdapterWeightsFile);
  if (!header.ok()) return absl::DataLossError(header.status().message());
  const v1::TensorManifest tensors = TensorsOf(*base.checkpoint());
  const BaseModel model = {.tensors = &tensors,
                           .config_json = base.config_json()};
  auto opened =
      PeftUpdate::Open(config, weights, &model, Vocabulary::kOfTheAdapter);
  if (!opened.ok()) return opened.status();
  const std::shared_ptr<const PeftUpdate> update = *std::move(opened);
  CAIRN_RETURN_IF_ERROR(update->CheckFinite());
  const AdapterPlan& plan = update->plan();
  AdapterChanges changes = {.effects = {},
                            .added = plan.added,
                            .config = plan.config,
                            .not_additive = plan.not_additive};
  CAIRN_RETURN_IF_ERROR(OpenEffects(base, directory, update, changes));
  if (plan.untied_head.has_value()) {
    const CheckpointTensor& stored =
        *base.checkpoint()->Find(plan.untied_head->second);
    changes.effects[plan.untied_head->first] =
        MakeReplacedEffect(base.checkpoint()->files().at(stored.file), stored);
  }
  return changes;
}

absl::StatusOr<Opened> Open(const ModelSource& base,
                            const WeightedAdapter& adapter) {
  CAIRN_ASSIGN_OR_RETURN(const FileMap files,
                         OpenDirectorySources(adapter.directory));
  Opened opened;
  opened.directory = adapter.directory;
  opened.weight = adapter.weight;
  if (files.contains(kUpdateFile)) {
    CAIRN_ASSIGN_OR_RETURN(opened.changes,
                           OpenCairnUpdate(base, adapter.directory, files));
  } else {
    for (const char* name : {kAdapterConfigFile, kAdapterWeightsFile}) {
      if (files.contains(name)) continue;
      return absl::NotFoundError(absl::StrCat(
          "has no ", name,
          files.contains("adapter_model.bin")
              ? "; adapter_model.bin is a pickle, which is not read: save it "
                "as safetensors"
              : ""));
    }
    CAIRN_ASSIGN_OR_RETURN(
        opened.changes,
        OpenPeftAdapter(base, adapter.directory, *files.at(kAdapterConfigFile),
                        files.at(kAdapterWeightsFile)));
  }
  CAIRN_ASSIGN_OR_RETURN(const std::vector<v1::File> described,
                         DescribeUpdateFiles(files));
  opened.digest = UpdateDigest(described);
  return opened;
}

// The sum of parts that are read when it is made.
Effect DeferSum(std::vector<WeightedEffect> parts) {
  // While factors are put side by side, they are held twice.
  int64_t bytes = 0;
  for (const auto& part : parts) bytes += 2 * part.effect->memory_bytes();
  return MakeDeferredEffect(
      [parts = std::move(parts)]() -> absl::StatusOr<Effect> {
        std::vector<WeightedEffect> loaded;
        for (const WeightedEffect& part : parts) {
          CAIRN_ASSIGN_OR_RETURN(Effect effect, Loaded(part.effect));
          loaded.push_back({std::move(effect), part.weight});
        }
        return MakeSummedEffect(std::move(loaded));
      },
      bytes);
}

// The weighted sum of what several adapters add.
absl::StatusOr<AdapterChanges> Sum(std::vector<Opened>& adapters) {
  std::map<std::string, std::vector<WeightedEffect>> parts;
  for (Opened& adapter : adapters) {
    const std::string& why = adapter.changes.not_additive;
    if (!why.empty()) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
          absl::StrCat(adapter.directory, ": ", why,
                       " depends on the base or replaces it, so that it can "
                       "be merged alone with weight 1 only"));
    }
    for (auto& [name, effect] : adapter.changes.effects) {
      parts[name].push_back(
          {std::move(effect), static_cast<float>(adapter.weight)});
    }
  }
  AdapterChanges sum;
  for (auto& [name, list] : parts) {
    sum.effects[name] = DeferSum(std::move(list));
  }
  return sum;
}

}  // namespace

absl::StatusOr<AdaptedModel> OpenAdapters(
    const ModelSource& base, std::vector<WeightedAdapter> adapters) {
  std::vector<Opened> opened;
  for (const WeightedAdapter& adapter : adapters) {
    auto one = Open(base, adapter);
    if (!one.ok()) {
      absl::Status status = Annotate(one.status(), adapter.directory);
      return status;
    }
    opened.push_back(*std::move(one));
  }
  // By content, so that the order in which they are named says nothing.
  std::stable_sort(
      opened.begin(), opened.end(), [](const Opened& a, const Opened& b) {
        return std::tie(a.digest, a.weight) < std::tie(b.digest, b.weight);
      });
  Hasher hasher;
  for (const Opened& adapter : opened) {
    hasher.Update(absl::StrCat(adapter.digest, " ", adapter.weight, "\n"));
  }
  AdapterChanges changes;
  if (opened.size() == 1 && opened[0].weight == 1) {
    changes = std::move(opened[0].changes);
  } else {
    CAIRN_ASSIGN_OR_RETURN(changes, Sum(opened));
  }
  AdaptedModel model;
  model.effects = {.effects = std::move(changes.effects),
                   .added = std::move(changes.added),
                   .digest = hasher.Finish().hex()};
  model.config = changes.config;
  return model;
}

absl::StatusOr<std::string> ApplyToConfig(const ConfigChange& change,
                                          absl::string_view config_json,
                                          absl::string_view label) {
  auto config = nlohmann::ordered_json::parse(
      config_json.begin(), config_json.end(), nullptr, false);
  if (!config.is_object() || IsDeepJson(config_json)) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
        absl::StrCat(label, "/config.json: is no JSON object"));
  }
  if (change.tie_word_embeddings) {
    config["tie_word_embeddings"] = *change.tie_word_embeddings;
  }
  if (change.vocab_size) config["vocab_size"] = *change.vocab_size;
  return config.dump(2, ' ', false,
                     nlohmann::ordered_json::error_handler_t::replace) +
         "\n";
}

}  // namespace cairn
