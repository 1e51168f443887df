#include "merge/eval/text_items.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/text_encoder.h"

namespace cairn {
namespace {

using Ids = std::vector<int64_t>;

// The ids of texts, encoded together; the first item stands for all in errors.
absl::StatusOr<std::vector<Ids>> Encode(const FileMap& model_files,
                                        const ItemHead& first,
                                        const std::vector<std::string>& texts) {
  const absl::StatusOr<TextEncoder> encoder = TextEncoder::Open(model_files);
  if (!encoder.ok()) return Annotate(encoder.status(), first.where);
  absl::StatusOr<std::vector<Ids>> ids = encoder->Encode(texts);
  if (!ids.ok()) return Annotate(ids.status(), first.where);
  return ids;
}

absl::StatusOr<Ids> PrefixOf(const SuiteDescription& suite,
                             const LanguageModel& model, const ItemHead& item) {
  const Ids& prefix = suite.prefix_ids.has_value() ? *suite.prefix_ids
                                                   : model.traits().prefix_ids;
  if (!prefix.empty()) return prefix;
  return UnfitItem(item,
                   "config.json names no bos_token_id or eos_token_id to begin "
                   "a text with; suite.yaml should give `prefix_ids`");
}

// With an encoder the two halves are tokenised apart, each in a way of its own.
absl::Status RequireDecoder(const LanguageModel& model, const ItemHead& item) {
  if (!model.traits().has_encoder) return absl::OkStatus();
  return UnfitItem(item, absl::StrCat("texts are tokenised for decoders only; ",
                                      kHowToTokenise));
}

}  // namespace

absl::Status TokeniseItems(const SuiteDescription& suite,
                           const LanguageModel& model,
                           const FileMap& model_files,
                           std::vector<PerplexityItem>& items) {
  std::vector<PerplexityItem*> bare;
  std::vector<std::string> texts;
  for (PerplexityItem& item : items) {
    if (!item.ids.empty()) continue;
    bare.push_back(&item);
    texts.push_back(*item.text);
  }
  if (bare.empty()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(RequireDecoder(model, *bare.front()));
  CAIRN_ASSIGN_OR_RETURN(std::vector<Ids> ids,
                         Encode(model_files, *bare.front(), texts));
  CAIRN_ASSIGN_OR_RETURN(const Ids prefix,
                         PrefixOf(suite, model, *bare.front()));
  for (size_t i = 0; i < bare.size(); ++i) {
    bare[i]->ids = prefix;
    bare[i]->ids.insert(bare[i]->ids.end(), ids[i].begin(), ids[i].end());
    if (bare[i]->ids.size() < 2) {
      return DamagedItem(*bare[i], "`text` has no token to score");
    }
  }
  return absl::OkStatus();
}

absl::Status TokeniseItems(const SuiteDescription& suite,
                           const LanguageModel& model,
                           const FileMap& model_files,
                           std::vector<MultipleChoiceItem>& items) {
  std::vector<MultipleChoiceItem*> bare;
  std::vector<std::string> texts;  // of each item its context, then the wholes
  for (MultipleChoiceItem& item : items) {
    if (!item.context_text.has_value()) continue;
    bare.push_back(&item);
    absl::string_view context = *item.context_text;
    const absl::string_view kept = absl::StripTrailingAsciiWhitespace(context);
    texts.emplace_back(kept);
    for (const std::string& choice : item.texts) {
      texts.push_back(absl::StrCat(context, suite.target_delimiter, choice));
    }
  }
  if (bare.empty()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(RequireDecoder(model, *bare.front()));
  CAIRN_ASSIGN_OR_RETURN(std::vector<Ids> ids,
                         Encode(model_files, *bare.front(), texts));
  size_t at = 0;
  for (MultipleChoiceItem* item : bare) {
    const Ids own = std::move(ids[at++]);
    item->context = own;
    if (own.empty()) {
      CAIRN_ASSIGN_OR_RETURN(item->context, PrefixOf(suite, model, *item));
    }
    for (size_t i = 0; i < item->texts.size(); ++i) {
      const Ids& whole = ids[at++];
      if (whole.size() <= own.size()) {
        return UnfitItem(*item,
                         absl::StrCat("choice ", i,
                                      " leaves no token of its own after the "
                                      "context; ",
                                      kHowToTokenise));
      }
      item->choices.emplace_back(
          whole.begin() + static_cast<std::ptrdiff_t>(own.size()), whole.end());
    }
  }
  return absl::OkStatus();
}

absl::Status TokeniseItems(const SuiteDescription&, const LanguageModel& model,
                           const FileMap& model_files,
                           std::vector<GenerationItem>& items) {
  std::vector<GenerationItem*> bare;
  std::vector<std::string> texts;
  for (GenerationItem& item : items) {
    if (!item.context_text.has_value()) continue;
    bare.push_back(&item);
    texts.push_back(*item.context_text);
  }
  if (bare.empty()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(RequireDecoder(model, *bare.front()));
  CAIRN_ASSIGN_OR_RETURN(std::vector<Ids> ids,
                         Encode(model_files, *bare.front(), texts));
  for (size_t i = 0; i < bare.size(); ++i) {
    if (ids[i].empty()) return DamagedItem(*bare[i], "`context` is empty");
    bare[i]->context = std::move(ids[i]);
  }
  return absl::OkStatus();
}

}  // namespace cairn
