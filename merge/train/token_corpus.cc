#include "merge/train/token_corpus.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

// Text is held in memory; this much is far more than a run can read.
constexpr int64_t kFileBytesMax = int64_t{8} << 30;

absl::Status CheckId(const std::string& where, int64_t id, int64_t vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      where, ": token id ", id, "; the model's vocabulary has ", vocab_size,
      " tokens, so ids go from 0 to ", vocab_size - 1));
}

template <typename Id>
absl::Status ParseIds(const std::string& path, const std::string& bytes,
                      int64_t vocab_size, std::vector<int32_t>& ids) {
  if (bytes.size() % sizeof(Id) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", bytes.size(), " bytes are not a multiple of ",
                     sizeof(Id), ", the size of a token id"));
  }
  ids.reserve(bytes.size() / sizeof(Id));
  for (size_t at = 0; at < bytes.size(); at += sizeof(Id)) {
    Id id;
    std::memcpy(&id, bytes.data() + at, sizeof(Id));
    if (static_cast<int64_t>(id) >= vocab_size) {
      return CheckId(absl::StrCat(path, ": token ", at / sizeof(Id)), id,
                     vocab_size);
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  return absl::OkStatus();
}

absl::Status ParseLine(const std::string& where, const std::string& line,
                       int64_t vocab_size, std::vector<int32_t>& ids) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || json.size() != 1 || !json.contains("input_ids") ||
      !json["input_ids"].is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, R"(: must be {"input_ids": [ID, ...]} and nothing else)"));
  }
  for (const auto& id : json["input_ids"]) {
    if (!id.is_number_integer()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": input_ids holds ", id.dump(),
                       "; token ids are whole numbers"));
    }
    CAIRN_RETURN_IF_ERROR(CheckId(where, id.get<int64_t>(), vocab_size));
    ids.push_back(id.get<int32_t>());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status TokenCorpus::Parse(const std::string& path,
                                const std::string& bytes, int64_t vocab_size,
                                Part& part) {
  if (absl::EndsWith(path, ".jsonl")) {
    int64_t number = 0;
    for (absl::string_view line : absl::StrSplit(bytes, '\n')) {
      ++number;
      if (line.empty()) continue;
      const size_t start = part.ids.size();
      const std::string where = absl::StrCat(path, ":", number);
      CAIRN_RETURN_IF_ERROR(
          ParseLine(where, std::string(line), vocab_size, part.ids));
      if (part.ids.size() < start + 2) {
        part.ids.resize(start);  // nothing to predict
        continue;
      }
      part.starts.push_back(static_cast<int64_t>(start));
    }
  } else {
    const auto parse = absl::EndsWith(path, ".u16")   ? ParseIds<uint16_t>
                       : absl::EndsWith(path, ".u32") ? ParseIds<uint32_t>
                                                      : ParseIds<uint8_t>;
    CAIRN_RETURN_IF_ERROR(parse(path, bytes, vocab_size, part.ids));
    if (part.ids.size() >= 2) part.starts.push_back(0);
  }
  if (part.starts.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": holds no document of at least two tokens"));
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenCorpus> TokenCorpus::Load(absl::Span<const DataFile> files,
                                              int64_t vocab_size) {
  TokenCorpus data;
  Hasher hasher;
  double weight = 0;
  for (const DataFile& file : files) {
    if (!(file.weight > 0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.path, ": weight ", file.weight, "; must be above 0"));
    }
    CAIRN_ASSIGN_OR_RETURN(const std::string bytes,
                           ReadFile(file.path, kFileBytesMax));
    hasher.Update(bytes);
    Part& part = data.parts_.emplace_back();
    part.weight_end = weight += file.weight;
    CAIRN_RETURN_IF_ERROR(Parse(file.path, bytes, vocab_size, part));
  }
  if (data.parts_.empty()) {
    return absl::InvalidArgumentError("no training data: give --data FILE");
  }
  data.digest_ = hasher.Finish().hex();
  return data;
}

int64_t TokenCorpus::tokens() const {
  size_t sum = 0;
  for (const Part& part : parts_) sum += part.ids.size();
  return static_cast<int64_t>(sum);
}

std::vector<int64_t> TokenCorpus::Window(const CounterRandom& random,
                                         uint64_t index, int64_t length) const {
  const double at = random.Uniform(3 * index) * parts_.back().weight_end;
  const auto part = std::find_if(
      parts_.begin(), parts_.end() - 1,
      [at](const Part& candidate) { return at < candidate.weight_end; });
  const auto size = static_cast<int64_t>(part->ids.size());
  const int64_t position = random.Below(3 * index + 1, size);
  const auto next =
      std::upper_bound(part->starts.begin(), part->starts.end(), position);
  const int64_t begin = *(next - 1);
  const int64_t end = next == part->starts.end() ? size : *next;
  const int64_t count = std::min(length + 1, end - begin);
  const int64_t start =
      begin + random.Below(3 * index + 2, end - begin - count + 1);
  return {part->ids.begin() + start, part->ids.begin() + start + count};
}

}  // namespace cairn
