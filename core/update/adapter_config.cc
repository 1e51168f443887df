#include "core/update/adapter_config.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr size_t kPatternBytesMax = 1024;
constexpr size_t kPatternsMax = 1000;
constexpr int64_t kRankMax = 1 << 20;
constexpr int64_t kPatternMemory = 256 << 10;

// Keys that other values than "nothing" of change what the factors mean.
constexpr std::array<const char*, 9> kSemanticKeys = {
    "alora_invocation_tokens", "arrow_config",    "corda_config",
    "ensure_weight_tying",     "kasa_config",     "layer_replication",
    "lora_ga_config",          "megatron_config", "use_qalora",
};
// Keys of the form use_* and *_config that change nothing once trained.
constexpr std::array<const char*, 4> kHarmlessKeys = {
    "eva_config",      // how the factors were initialised
    "runtime_config",  // where peft computes
    "use_dora",        // read below
    "use_rslora",      // likewise
};

class ConfigReader {
 public:
  ConfigReader(const JsonValue& root, absl::string_view label)
      : root_(root), label_(label) {}

  absl::Status Error(absl::string_view reason, absl::string_view key,
                     absl::string_view what) const {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, reason,
        absl::StrCat(label_, ": ", key, " ", what),
        {{"file", std::string(label_)}, {"field", std::string(key)}});
  }

  absl::Status WrongType(absl::string_view key, const JsonValue& value,
                         absl::string_view wanted) const {
    return Error(
        "MALFORMED_FILE", key,
        absl::StrCat("is ", value.type_text(), "; it must be ", wanted));
  }

  absl::Status ReadBool(absl::string_view key, bool& out) const {
    const JsonValue* value = root_.Find(key);
    if (value == nullptr || value->is_null()) return absl::OkStatus();
    if (value->as_bool() == nullptr) {
      return WrongType(key, *value, "true or false");
    }
    out = *value->as_bool();
    return absl::OkStatus();
  }

  absl::Status ReadText(absl::string_view key, std::string& out) const {
    const JsonValue* value = root_.Find(key);
    if (value == nullptr || value->is_null()) return absl::OkStatus();
    if (value->as_string() == nullptr) {
      return WrongType(key, *value, "a string");
    }
    out = *value->as_string();
    return absl::OkStatus();
  }

  absl::Status CheckRank(absl::string_view key, const JsonValue& value) const {
    const int64_t* rank = value.as_int();
    if (rank == nullptr) return WrongType(key, value, "a positive integer");
    if (*rank < 1 || *rank > kRankMax) {
      return Error("MALFORMED_FILE", key,
                   absl::StrCat("is ", *rank, "; a rank is 1 to ", kRankMax));
    }
    return absl::OkStatus();
  }

  absl::Status CheckAlpha(absl::string_view key, const JsonValue& value) const {
    if (value.is_number() && std::isfinite(value.AsDouble())) {
      return absl::OkStatus();
    }
    return WrongType(key, value, "a finite number");
  }

  absl::StatusOr<std::shared_ptr<const re2::RE2>> Compile(
      absl::string_view key, const std::string& pattern,
      const std::string& wrapped) const {
    if (pattern.size() > kPatternBytesMax) {
      return Error(
          "LIMIT_EXCEEDED", key,
          absl::StrCat("has a pattern of ", pattern.size(), " bytes; at most ",
                       kPatternBytesMax, " are allowed"));
    }
    re2::RE2::Options options(re2::RE2::Quiet);
    options.set_max_mem(kPatternMemory);
    auto regex = std::make_shared<const re2::RE2>(wrapped, options);
    if (!regex->ok()) {
      return Error("MALFORMED_FILE", key,
                   absl::StrCat("has the pattern ", JsonQuote(pattern),
                                ", which cannot be read: ", regex->error()));
    }
    return regex;
  }

  absl::Status ReadRules(absl::string_view key, bool are_ranks,
                         std::vector<PatternRule>& out) const {
    const JsonValue* value = root_.Find(key);
    if (value == nullptr || value->is_null()) return absl::OkStatus();
    if (value->as_object() == nullptr) {
      return WrongType(key, *value, "an object");
    }
    if (value->as_object()->size() > kPatternsMax) {
      return Error(
          "LIMIT_EXCEEDED", key,
          absl::StrCat("has ", value->as_object()->size(),
                       " patterns; at most ", kPatternsMax, " are allowed"));
    }
    for (const auto& [pattern, number] : *value->as_object()) {
      const std::string field =
          absl::StrCat(key, "[", JsonQuote(pattern.substr(0, 80)), "]");
      CAIRN_RETURN_IF_ERROR(are_ranks ? CheckRank(field, number)
                                      : CheckAlpha(field, number));
      PatternRule rule{.pattern = pattern, .value = number.AsDouble()};
      CAIRN_ASSIGN_OR_RETURN(
          rule.regex,
          Compile(key, pattern, absl::StrCat("(.*\\.)?(", pattern, ")")));
      out.push_back(std::move(rule));
    }
    return absl::OkStatus();
  }

  absl::Status ReadTargets(AdapterConfig& config) const {
    const JsonValue* value = root_.Find("target_modules");
    if (value == nullptr || value->is_null()) return absl::OkStatus();
    if (const std::string* text = value->as_string()) {
      if (*text == "all-linear") return absl::OkStatus();
      CAIRN_ASSIGN_OR_RETURN(config.target_regex,
                             Compile("target_modules", *text, *text));
      return absl::OkStatus();
    }
    if (value->as_array() == nullptr) {
      return WrongType("target_modules", *value,
                       "a string or an array of strings");
    }
    for (const JsonValue& item : *value->as_array()) {
      if (item.as_string() == nullptr) {
        return WrongType("target_modules", item,
                         "a string or an array of strings");
      }
      config.target_modules.push_back(*item.as_string());
    }
    std::sort(config.target_modules.begin(), config.target_modules.end());
    return absl::OkStatus();
  }

  absl::Status ReadNames(absl::string_view key,
                         std::vector<std::string>& out) const {
    const JsonValue* value = root_.Find(key);
    if (value == nullptr || value->is_null()) return absl::OkStatus();
    if (value->as_string() != nullptr) {
      out = {*value->as_string()};
      return absl::OkStatus();
    }
    if (value->as_array() == nullptr) {
      return WrongType(key, *value, "an array of strings");
    }
    for (const JsonValue& item : *value->as_array()) {
      if (item.as_string() == nullptr) {
        return WrongType(key, item, "an array of strings");
      }
      out.push_back(*item.as_string());
    }
    return absl::OkStatus();
  }

  absl::Status ReadTokens(AdapterConfig& config) const {
    constexpr char kKey[] = "trainable_token_indices";
    const JsonValue* value = root_.Find(kKey);
    if (value == nullptr || value->is_null()) return absl::OkStatus();
    const auto read = [&](const JsonValue& list,
                          std::vector<int64_t>& out) -> absl::Status {
      if (list.as_array() == nullptr) {
        return WrongType(kKey, list, "an array of indices");
      }
      for (const JsonValue& item : *list.as_array()) {
        if (item.as_int() == nullptr || *item.as_int() < 0) {
          return WrongType(kKey, item, "an array of indices");
        }
        out.push_back(*item.as_int());
      }
      return absl::OkStatus();
    };
    if (value->as_object() == nullptr) {
      return read(*value, config.token_indices[""]);
    }
    for (const auto& [module, list] : *value->as_object()) {
      CAIRN_RETURN_IF_ERROR(read(list, config.token_indices[module]));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<AdapterKind> ReadKind() const {
    const JsonValue* type = root_.Find("peft_type");
    if (type == nullptr || type->as_string() == nullptr) {
      return Error("MALFORMED_FILE", "peft_type",
                   "must be there and be a string, e.g. \"LORA\"");
    }
    if (*type->as_string() == "LORA") return AdapterKind::kLora;
    if (*type->as_string() == "IA3") return AdapterKind::kIa3;
    if (*type->as_string() == "SHIRA") return AdapterKind::kShira;
    return Error(
        "UNSUPPORTED", "peft_type",
        absl::StrCat("is ", JsonQuote(type->as_string()->substr(0, 40)),
                     "; of PEFT only LORA, IA3 and SHIRA can be "
                     "merged"));
  }

  // Refuses what changes the meaning of the factors in a way that is not
  // implemented.
  absl::Status CheckSemantics() const {
    for (const auto& [key, value] : *root_.as_object()) {
      if (IsSemantic(key) && !MeansNothing(value)) {
        return Error("UNSUPPORTED", key,
                     "is set; adapters that use it cannot be merged");
      }
    }
    std::string bias = "none";
    CAIRN_RETURN_IF_ERROR(ReadText("bias", bias));
    if (bias != "none" && bias != "all" && bias != "lora_only") {
      return Error("UNSUPPORTED", "bias",
                   absl::StrCat("is ", JsonQuote(bias.substr(0, 40)),
                                "; \"none\", \"all\" and \"lora_only\" can "
                                "be merged"));
    }
    return CheckInitialisation();
  }

 private:
  bool IsSemantic(const std::string& key) const {
    auto is_key = [&](const char* other) { return key == other; };
    if (std::any_of(kHarmlessKeys.begin(), kHarmlessKeys.end(), is_key)) {
      return false;
    }
    return std::any_of(kSemanticKeys.begin(), kSemanticKeys.end(), is_key) ||
           absl::StartsWith(key, "use_") || absl::EndsWith(key, "_config");
  }

  static bool MeansNothing(const JsonValue& value) {
    return value.is_null() ||
           (value.as_bool() != nullptr && !*value.as_bool()) ||
           (value.as_array() != nullptr && value.as_array()->empty()) ||
           (value.as_object() != nullptr && value.as_object()->empty());
  }

  // Some initialisations change the base itself; their factors then stand
  // against weights that nobody has.
  absl::Status CheckInitialisation() const {
    const JsonValue* value = root_.Find("init_lora_weights");
    if (value == nullptr || value->as_string() == nullptr) {
      return absl::OkStatus();
    }
    for (const char* kind : {"pissa", "olora", "corda", "loftq", "lora_ga"}) {
      if (absl::StartsWith(*value->as_string(), kind)) {
        return Error(
            "UNSUPPORTED", "init_lora_weights",
            absl::StrCat("is ", JsonQuote(value->as_string()->substr(0, 40)),
                         ", which changes the base; export the adapter with "
                         "path_initial_model_for_weight_conversion"));
      }
    }
    return absl::OkStatus();
  }

  const JsonValue& root_;
  const absl::string_view label_;
};

const PatternRule* FirstMatch(const std::vector<PatternRule>& rules,
                              absl::string_view module) {
  const re2::StringPiece name(module.data(), module.size());
  for (const PatternRule& rule : rules) {
    if (re2::RE2::FullMatch(name, *rule.regex)) return &rule;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<AdapterConfig> AdapterConfig::Parse(absl::string_view text,
                                                   absl::string_view label) {
  CAIRN_ASSIGN_OR_RETURN(JsonValue root, JsonValue::Parse(text, label));
  ConfigReader reader(root, label);
  if (root.as_object() == nullptr) {
    return reader.Error(
        "MALFORMED_FILE", "the document",
        absl::StrCat("is ", root.type_text(), "; it must be an object"));
  }
  AdapterConfig config;
  CAIRN_ASSIGN_OR_RETURN(config.kind, reader.ReadKind());
  CAIRN_RETURN_IF_ERROR(reader.CheckSemantics());
  CAIRN_RETURN_IF_ERROR(reader.ReadBool("use_rslora", config.use_rslora));
  CAIRN_RETURN_IF_ERROR(
      reader.ReadBool("fan_in_fan_out", config.fan_in_fan_out));
  CAIRN_RETURN_IF_ERROR(reader.ReadText("base_model_name_or_path",
                                        config.base_model_name_or_path));
  CAIRN_RETURN_IF_ERROR(reader.ReadText("revision", config.revision));
  if (const JsonValue* rank = root.Find("r")) {
    CAIRN_RETURN_IF_ERROR(reader.CheckRank("r", *rank));
    config.rank = *rank->as_int();
  }
  if (const JsonValue* alpha = root.Find("lora_alpha")) {
    CAIRN_RETURN_IF_ERROR(reader.CheckAlpha("lora_alpha", *alpha));
    config.alpha = alpha->AsDouble();
  }
  CAIRN_RETURN_IF_ERROR(
      reader.ReadRules("rank_pattern", true, config.rank_pattern));
  CAIRN_RETURN_IF_ERROR(
      reader.ReadRules("alpha_pattern", false, config.alpha_pattern));
  CAIRN_RETURN_IF_ERROR(reader.ReadTargets(config));
  CAIRN_RETURN_IF_ERROR(reader.ReadBool("use_dora", config.use_dora));
  CAIRN_RETURN_IF_ERROR(reader.ReadBool("lora_bias", config.lora_bias));
  CAIRN_RETURN_IF_ERROR(
      reader.ReadNames("target_parameters", config.target_parameters));
  CAIRN_RETURN_IF_ERROR(
      reader.ReadNames("feedforward_modules", config.feedforward_modules));
  CAIRN_RETURN_IF_ERROR(reader.ReadTokens(config));
  return config;
}

std::string ModulePattern(absl::string_view module) {
  std::string pattern = "^";
  for (const char c : module) {
    const bool is_plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                          c == '_' || static_cast<unsigned char>(c) >= 0x80;
    if (!is_plain) pattern.push_back('\\');
    pattern.push_back(c);
  }
  return pattern;
}

int64_t AdapterConfig::RankOf(absl::string_view module) const {
  const PatternRule* rule = FirstMatch(rank_pattern, module);
  return rule == nullptr ? rank : static_cast<int64_t>(rule->value);
}

double AdapterConfig::ScaleOf(absl::string_view module) const {
  const PatternRule* rule = FirstMatch(alpha_pattern, module);
  const double numerator = rule == nullptr ? alpha : rule->value;
  const auto r = static_cast<double>(RankOf(module));
  return numerator / (use_rslora ? std::sqrt(r) : r);
}

bool AdapterConfig::Targets(absl::string_view module) const {
  if (target_regex != nullptr) {
    return re2::RE2::FullMatch(re2::StringPiece(module.data(), module.size()),
                               *target_regex);
  }
  if (target_modules.empty()) return true;
  // Every suffix of whole segments, longest first.
  for (absl::string_view suffix = module;;) {
    if (std::binary_search(target_modules.begin(), target_modules.end(),
                           suffix)) {
      return true;
    }
    const size_t dot = suffix.find('.');
    if (dot == absl::string_view::npos) return false;
    suffix.remove_prefix(dot + 1);
  }
}

}  // namespace cairn
