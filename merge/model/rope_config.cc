#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "merge/model/rope.h"

namespace cairn {
namespace {

using Kind = RopeConfig::Kind;

void ReadLlama3(ConfigReader& settings, RopeConfig& rope) {
  rope.kind = Kind::kLlama3;
  rope.factor = settings.Positive("factor");
  rope.low_freq_factor = settings.Positive("low_freq_factor");
  rope.high_freq_factor = settings.Positive("high_freq_factor");
}

void ReadYarn(ConfigReader& settings, int64_t longest, RopeConfig& rope) {
  rope.kind = Kind::kYarn;
  rope.factor = settings.Positive(
      "factor",
      static_cast<double>(longest) / static_cast<double>(rope.original_length));
  rope.beta_fast = settings.Positive("beta_fast", 32.0);
  rope.beta_slow = settings.Positive("beta_slow", 1.0);
  rope.mscale = settings.Positive("mscale", 0.0);
  rope.mscale_all_dim = settings.Positive("mscale_all_dim", 0.0);
  rope.truncate = settings.Flag("truncate", true);
}

void ReadLongRope(ConfigReader& settings, int64_t longest, int64_t head_dim,
                  RopeConfig& rope) {
  rope.kind = Kind::kLongRope;
  rope.factor =
      static_cast<double>(longest) / static_cast<double>(rope.original_length);
  rope.short_factors = settings.Numbers("short_factor");
  rope.long_factors = settings.Numbers("long_factor");
  const size_t frequencies = static_cast<size_t>(rope.RotaryDim(head_dim) / 2);
  for (const char* key : {"short_factor", "long_factor"}) {
    const std::vector<double>& factors =
        key[0] == 's' ? rope.short_factors : rope.long_factors;
    if (factors.size() != frequencies ||
        std::any_of(factors.begin(), factors.end(),
                    [](double f) { return !(f > 0); })) {
      settings.Fail(key, absl::StrCat("a list of ", frequencies,
                                      " positive numbers, one a frequency"));
    }
  }
}

absl::Status ReadKind(const std::string& kind, ConfigReader& settings,
                      int64_t head_dim, int64_t longest, RopeConfig& rope) {
  if (kind == "linear" || kind == "dynamic") {
    rope.kind = kind == "linear" ? Kind::kLinear : Kind::kDynamic;
    rope.factor = settings.Positive("factor");
  } else if (kind == "llama3") {
    ReadLlama3(settings, rope);
  } else if (kind == "yarn") {
    ReadYarn(settings, longest, rope);
  } else if (kind == "longrope" || kind == "su") {
    ReadLongRope(settings, longest, head_dim, rope);
  } else if (kind != "default") {
    return UnsupportedConfig(absl::StrCat(
        "rope kind `", kind,
        "` is not supported; default, linear, dynamic, yarn, llama3 and "
        "longrope are"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RopeConfig> RopeConfig::Read(ConfigReader& config,
                                            const char* theta_key,
                                            const char* rotary_key,
                                            double share, int64_t head_dim,
                                            int64_t longest) {
  RopeConfig rope;
  rope.theta =
      config.Positive("rope_theta", config.Positive(theta_key, rope.theta));
  rope.rotary_share = config.Positive("partial_rotary_factor", share);
  if (rotary_key != nullptr) {
    rope.rotary_share = config.Positive(rotary_key, rope.rotary_share);
  }
  rope.original_length =
      config.Size("original_max_position_embeddings", longest);
  const char* const key =
      config.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (std::optional<ConfigReader> settings = config.Object(key)) {
    rope.theta = settings->Positive("rope_theta", rope.theta);
    rope.rotary_share =
        settings->Positive("partial_rotary_factor", rope.rotary_share);
    rope.original_length = settings->Size("original_max_position_embeddings",
                                          rope.original_length);
    if (settings->Has("attention_factor")) {
      rope.attention_factor = settings->Positive("attention_factor");
    }
    const std::string kind =
        settings->Text("rope_type", settings->Text("type", "default"));
    CAIRN_RETURN_IF_ERROR(ReadKind(kind, *settings, head_dim, longest, rope));
  }
  const int64_t rotary = rope.RotaryDim(head_dim);
  const int64_t least = rope.kind == Kind::kDynamic ? 4 : 2;
  if (rope.rotary_share > 1 || rotary % 2 != 0 || rotary < least) {
    config.Fail(
        "head_dim",
        absl::StrCat("such that an even number of at least ", least,
                     " dimensions turns, not ", rotary, " of ", head_dim));
  }
  CAIRN_RETURN_IF_ERROR(config.status());
  return rope;
}

int64_t RopeConfig::LongestInput(int64_t longest) const {
  if (kind != Kind::kDynamic) return longest;
  return static_cast<int64_t>(static_cast<double>(longest) * factor);
}

}  // namespace cairn
