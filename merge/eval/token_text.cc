#include "merge/eval/token_text.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/base/utf8.h"

namespace cairn {
namespace {

using Json = nlohmann::json;
using Tokens = std::vector<std::string>;
using Step = std::function<void(Tokens&)>;

constexpr char kFile[] = "tokenizer.json";
// The largest that are published have some 30 MB.
constexpr int64_t kFileBytesMax = 256 << 20;
constexpr char kUnknownCharacter[] = "\xEF\xBF\xBD";

// What a decoder may put in the place of a text, and how long what it makes
// may become: steps that each double it would fill the memory.
constexpr size_t kReplacementBytesMax = 64;
constexpr size_t kTextBytesMax = 1 << 20;

absl::Status Damaged(absl::string_view what) {
  return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                       absl::StrCat(kFile, ": ", what), {{"file", kFile}});
}

absl::Status Unsupported(absl::string_view what) {
  return ReasonedError(absl::StatusCode::kUnimplemented, "UNSUPPORTED",
                       absl::StrCat(kFile, ": ", what), {{"file", kFile}});
}

std::string TextAt(const Json& object, const char* key,
                   const std::string& fall_back = "") {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>()
                                                     : fall_back;
}

int64_t NumberAt(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer()
             ? found->get<int64_t>()
             : 0;
}

// Whether more bytes can make these, two or three, a character.
bool BeginsCharacter(absl::string_view bytes) {
  for (size_t more = 1; more <= 2; ++more) {
    const std::string whole = absl::StrCat(bytes, std::string(more, '\x80'));
    if (CharacterLength(whole) == whole.size()) return true;
  }
  return false;
}

// The text with one U+FFFD for each byte, or beginning of a character, that is
// no text (as Unicode recommends, and Rust's from_utf8_lossy does).
std::string Readable(absl::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    size_t length = CharacterLength(bytes);
    if (length > 0) {
      absl::StrAppend(&out, bytes.substr(0, length));
    } else {
      length = std::min<size_t>(3, bytes.size());
      while (length > 1 && !BeginsCharacter(bytes.substr(0, length))) --length;
      out += kUnknownCharacter;
    }
    bytes.remove_prefix(length);
  }
  return out;
}

// GPT-2's way to write bytes: printable ones as the character of that number,
// the others as those from U+0100 on.
const std::unordered_map<std::string, char>& ByteOfCharacter() {
  static const auto* const kBytes = [] {
    auto* bytes = new std::unordered_map<std::string, char>();
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool is_printable =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const int c = is_printable ? byte : next++;
      const std::string text =
          c < 0x80 ? std::string(1, static_cast<char>(c))
                   : std::string{static_cast<char>(0xC0 | c >> 6),
                                 static_cast<char>(0x80 | (c & 0x3F))};
      (*bytes)[text] = static_cast<char>(byte);
    }
    return bytes;
  }();
  return *kBytes;
}

// A token as bytes; one that is not written so stands for itself.
std::string BytesOfToken(const std::string& token) {
  const auto& bytes = ByteOfCharacter();
  std::string out;
  for (absl::string_view rest = token; !rest.empty();) {
    const size_t length = std::max<size_t>(1, CharacterLength(rest));
    const auto found = bytes.find(std::string(rest.substr(0, length)));
    if (found == bytes.end()) return token;
    out += found->second;
    rest.remove_prefix(length);
  }
  return out;
}

void DecodeByteLevel(Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += BytesOfToken(token);
  tokens = {Readable(bytes)};
}

// Drops what is past kTextBytesMax.
void Limit(Tokens& tokens) {
  size_t left = kTextBytesMax;
  for (std::string& token : tokens) {
    if (token.size() > left) token.resize(left);
    left -= token.size();
  }
}

// "<0x0A>" as its byte.
std::optional<char> ByteOfToken(absl::string_view token) {
  uint32_t byte = 0;
  if (token.size() != 6 || !absl::ConsumePrefix(&token, "<0x") ||
      !absl::ConsumeSuffix(&token, ">") || !absl::SimpleHexAtoi(token, &byte)) {
    return std::nullopt;
  }
  return static_cast<char>(byte);
}

void DecodeByteFallback(Tokens& tokens) {
  Tokens out;
  std::string bytes;
  const auto flush = [&] {
    if (IsUtf8(bytes)) {
      if (!bytes.empty()) out.push_back(bytes);
    } else {
      for (size_t i = 0; i < bytes.size(); ++i)
        out.push_back(kUnknownCharacter);
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    if (const auto byte = ByteOfToken(token)) {
      bytes += *byte;
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(out);
}

Step MakeMetaspace(const Json& json) {
  const std::string mark = TextAt(json, "replacement", "\xE2\x96\x81");
  const auto adds = json.find("add_prefix_space");
  const std::string scheme =
      TextAt(json, "prepend_scheme",
             adds != json.end() && *adds == false ? "never" : "always");
  return [mark, drops = scheme != "never"](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      token = absl::StrReplaceAll(token, {{mark, i == 0 && drops ? "" : " "}});
    }
  };
}

absl::StatusOr<Step> MakeReplace(const Json& json) {
  const auto pattern = json.find("pattern");
  if (pattern == json.end() || !pattern->contains("String")) {
    return Unsupported("decoder Replace replaces a text, no pattern, here");
  }
  const std::string from = TextAt(*pattern, "String");
  const std::string to = TextAt(json, "content");
  if (from.empty()) return Damaged("decoder Replace has an empty pattern");
  if (to.size() > kReplacementBytesMax) {
    return Damaged(absl::StrCat("decoder Replace puts in ", to.size(),
                                " bytes; at most ", kReplacementBytesMax));
  }
  return Step([from, to](Tokens& tokens) {
    for (std::string& token : tokens) {
      token = absl::StrReplaceAll(token, {{from, to}});
    }
  });
}

absl::StatusOr<Step> MakeStrip(const Json& json) {
  const std::string content = TextAt(json, "content", " ");
  if (content.empty()) return Damaged("decoder Strip takes nothing away");
  return Step([content, start = NumberAt(json, "start"),
               stop = NumberAt(json, "stop")](Tokens& tokens) {
    for (std::string& token : tokens) {
      absl::string_view rest = token;
      for (int64_t i = 0; i < start && absl::ConsumePrefix(&rest, content);)
        ++i;
      for (int64_t i = 0; i < stop && absl::ConsumeSuffix(&rest, content);) ++i;
      token = std::string(rest);
    }
  });
}

// Adds what a decoder does.
absl::Status AddSteps(const Json& json, int depth, std::vector<Step>& steps) {
  if (!json.is_object() || depth > 8) return Damaged("`decoder` is no decoder");
  const std::string type = TextAt(json, "type");
  if (type == "Sequence") {
    const auto parts = json.find("decoders");
    if (parts == json.end() || !parts->is_array()) {
      return Damaged("decoder Sequence has no `decoders`");
    }
    for (const Json& part : *parts) {
      CAIRN_RETURN_IF_ERROR(AddSteps(part, depth + 1, steps));
    }
  } else if (type == "ByteLevel") {
    steps.push_back(DecodeByteLevel);
  } else if (type == "ByteFallback") {
    steps.push_back(DecodeByteFallback);
  } else if (type == "Metaspace") {
    steps.push_back(MakeMetaspace(json));
  } else if (type == "Replace") {
    CAIRN_ASSIGN_OR_RETURN(steps.emplace_back(), MakeReplace(json));
  } else if (type == "Strip") {
    CAIRN_ASSIGN_OR_RETURN(steps.emplace_back(), MakeStrip(json));
  } else if (type == "Fuse") {
    steps.push_back(
        [](Tokens& tokens) { tokens = {absl::StrJoin(tokens, "")}; });
  } else {
    return Unsupported(absl::StrCat(
        "decoder `", type,
        "` is not known; ByteLevel, ByteFallback, Fuse, Metaspace, Replace, "
        "Sequence and Strip are"));
  }
  return absl::OkStatus();
}

// The vocabulary of a `model`: {token: id}, or [[token, score], ...].
absl::Status AddVocabulary(const Json& model,
                           std::unordered_map<int64_t, std::string>& out) {
  const auto vocabulary = model.find("vocab");
  if (vocabulary == model.end()) return Damaged("`model.vocab` is missing");
  if (vocabulary->is_object()) {
    for (const auto& [token, id] : vocabulary->items()) {
      if (!id.is_number_integer()) return Damaged("`model.vocab` has no ids");
      out[id.get<int64_t>()] = token;
    }
    return absl::OkStatus();
  }
  int64_t id = 0;
  for (const Json& entry : *vocabulary) {
    if (!entry.is_array() || entry.empty() || !entry[0].is_string()) {
      return Damaged("`model.vocab` should be pairs of token and score");
    }
    out[id++] = entry[0].get<std::string>();
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenText> TokenText::Parse(absl::string_view tokenizer_json) {
  if (IsDeepJson(tokenizer_json)) return Damaged("nests too deeply");
  const Json json =
      Json::parse(tokenizer_json.begin(), tokenizer_json.end(), nullptr,
                  /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("model") ||
      !json["model"].is_object()) {
    return Damaged("is no JSON object with a `model`");
  }
  TokenText out;
  CAIRN_RETURN_IF_ERROR(AddVocabulary(json["model"], out.vocabulary_));
  if (const auto added = json.find("added_tokens"); added != json.end()) {
    for (const Json& token : *added) {
      if (!token.is_object()) return Damaged("`added_tokens` are no objects");
      const auto special = token.find("special");
      const bool is_special = special != token.end() && *special == true;
      out.vocabulary_[NumberAt(token, "id")] =
          is_special ? "" : TextAt(token, "content");
    }
  }
  const auto decoder = json.find("decoder");
  out.is_spaced_ = decoder == json.end() || decoder->is_null();
  if (!out.is_spaced_) {
    CAIRN_RETURN_IF_ERROR(AddSteps(*decoder, 0, out.steps_));
  }
  return out;
}

absl::StatusOr<TokenText> TokenText::Open(const FileMap& model_files) {
  const auto file = model_files.find(kFile);
  if (file == model_files.end()) {
    return ReasonedError(
        absl::StatusCode::kUnimplemented, "UNSUPPORTED",
        absl::StrCat("the suite compares texts, and the model has no ", kFile,
                     " to turn token ids into text; save it with its tokenizer "
                     "(AutoTokenizer.save_pretrained)"));
  }
  const absl::StatusOr<std::string> text =
      ReadAll(*file->second, kFileBytesMax);
  if (!text.ok()) return Damaged(text.status().message());
  return Parse(*text);
}

std::string TokenText::Decode(absl::Span<const int64_t> ids) const {
  Tokens tokens;
  for (const int64_t id : ids) {
    const auto token = vocabulary_.find(id);
    if (token != vocabulary_.end() && !token->second.empty()) {
      tokens.push_back(token->second);
    }
  }
  for (const Step& step : steps_) {
    step(tokens);
    Limit(tokens);
  }
  return absl::StrJoin(tokens, is_spaced_ ? " " : "");
}

}  // namespace cairn
