#include "core/tensor/safetensors_header_parser.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_util.h"

namespace cairn::internal {
namespace {

constexpr size_t kNameBytesMax = 1024;
constexpr size_t kRankMax = 64;

// Follows the parser through
//   {"__metadata__": {text: text},
//    name: {"dtype": text, "shape": [n...], "data_offsets": [n, n]}}
// and stops at the first thing that does not belong there.
class HeaderReader {
 public:
  HeaderReader(absl::string_view label, std::vector<TensorEntry>& tensors,
               std::map<std::string, std::string>& metadata)
      : label_(label), tensors_(tensors), metadata_(metadata) {}

  bool null() { return Unexpected("null"); }
  bool boolean(bool) { return Unexpected("a boolean"); }
  bool number_integer(int64_t) { return Unexpected("a negative number"); }
  bool number_float(double, const std::string&) {
    return Unexpected("a number that is no integer");
  }
  bool binary(nlohmann::json::binary_t&) { return Unexpected("binary"); }

  bool number_unsigned(uint64_t value) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Unexpected("a number past 63 bits");
    }
    if (place_ == Place::kShape) {
      if (tensor().shape.size() == kRankMax) {
        return Refuse(absl::StrCat("more than ", kRankMax, " dimensions"));
      }
      tensor().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets && offsets_ < 2) {
      (offsets_++ == 0 ? tensor().begin : tensor().end) =
          static_cast<int64_t>(value);
      return true;
    }
    return Unexpected(place_ == Place::kOffsets ? "a third offset"
                                                : "a number");
  }

  bool string(std::string& value) {
    if (place_ == Place::kMetadata) {
      metadata_[key_] = std::move(value);
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") {
      return Unexpected("a string");
    }
    auto dtype = ParseDType(value);
    if (!dtype.has_value()) {
      return Refuse(absl::StrCat("dtype ", JsonQuote(value.substr(0, 40)),
                                 " is not one that safetensors has"));
    }
    tensor().dtype = *dtype;
    return true;
  }

  bool start_object(size_t) {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        keys_.clear();
        if (key_ == "__metadata__") {
          place_ = Place::kMetadata;
          return true;
        }
        place_ = Place::kTensor;
        return StartTensor();
      default:
        return Unexpected("an object");
    }
  }

  bool end_object() {
    if (place_ == Place::kTensor && keys_.size() != 3) {
      for (const char* key : {"dtype", "shape", "data_offsets"}) {
        if (!keys_.contains(key)) {
          return Refuse(absl::StrCat("has no \"", key, "\""));
        }
      }
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool start_array(size_t) {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShape;
      return true;
    }
    if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsets;
      offsets_ = 0;
      return true;
    }
    return Unexpected("an array");
  }

  bool end_array() {
    if (place_ == Place::kOffsets && offsets_ != 2) {
      return Refuse("data_offsets must hold two numbers");
    }
    place_ = Place::kTensor;
    return true;
  }

  bool key(std::string& name) {
    auto& known = place_ == Place::kTop ? names_ : keys_;
    if (!known.insert(name).second) {
      return Refuse(absl::StrCat(place_ == Place::kTop ? "tensor " : "key ",
                                 JsonQuote(name.substr(0, 200)),
                                 " stands twice in the header"));
    }
    if (place_ == Place::kTensor && name != "dtype" && name != "shape" &&
        name != "data_offsets") {
      return Refuse(absl::StrCat("unknown key ", JsonQuote(name.substr(0, 80)),
                                 "; a tensor has dtype, shape, data_offsets"));
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) {
    return Refuse(
        absl::StrCat("the header is not JSON: wrong at its byte ", position));
  }

  const absl::Status& status() const { return status_; }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  TensorEntry& tensor() { return tensors_.back(); }

  bool StartTensor() {
    if (tensors_.size() == static_cast<size_t>(kSafetensorsTensorsMax)) {
      status_ =
          ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                        absl::StrCat(label_, ": more than ",
                                     kSafetensorsTensorsMax, " tensors"),
                        {{"file", std::string(label_)},
                         {"limit", absl::StrCat(kSafetensorsTensorsMax)}});
      return false;
    }
    bool is_plain = !key_.empty() && key_.size() <= kNameBytesMax;
    for (char c : key_) is_plain = is_plain && static_cast<uint8_t>(c) >= 0x20;
    if (!is_plain) {
      return Refuse(absl::StrCat("tensor name ", JsonQuote(key_.substr(0, 80)),
                                 " is empty, longer than ", kNameBytesMax,
                                 " bytes or has control characters"));
    }
    tensors_.emplace_back();
    tensor().name = key_;
    return true;
  }

  bool Unexpected(absl::string_view what) {
    switch (place_) {
      case Place::kStart:
      case Place::kEnd:
        return Refuse(
            absl::StrCat("the header is ", what, "; it must be a JSON object"));
      case Place::kTop:
        return Refuse(absl::StrCat("tensor ", JsonQuote(key_.substr(0, 200)),
                                   " is ", what, "; it must be an object"));
      case Place::kMetadata:
        return Refuse(absl::StrCat("__metadata__ key ",
                                   JsonQuote(key_.substr(0, 80)), " is ", what,
                                   "; it must be a string"));
      case Place::kShape:
      case Place::kOffsets:
        return Refuse(absl::StrCat(key_, " holds ", what,
                                   "; it must be an array of non-negative "
                                   "integers"));
      case Place::kTensor:
        break;
    }
    return Refuse(absl::StrCat(
        key_, " is ", what, "; it must be ",
        key_ == "dtype" ? "a string" : "an array of non-negative integers"));
  }

  bool Refuse(absl::string_view what) {
    std::map<std::string, std::string> details = {
        {"file", std::string(label_)}};
    std::string where = absl::StrCat(label_, ": ");
    bool inside = place_ == Place::kTensor || place_ == Place::kShape ||
                  place_ == Place::kOffsets;
    if (inside && !tensors_.empty()) {
      details["tensor"] = tensor().name;
      absl::StrAppend(&where, "tensor ", JsonQuote(tensor().name), ": ");
    }
    status_ =
        ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                      absl::StrCat(where, what), std::move(details));
    return false;
  }

  const absl::string_view label_;
  std::vector<TensorEntry>& tensors_;
  std::map<std::string, std::string>& metadata_;
  absl::Status status_;
  Place place_ = Place::kStart;
  std::string key_;
  int offsets_ = 0;
  // Keys seen at the top and in the object that is open below it.
  absl::flat_hash_set<std::string> names_;
  absl::flat_hash_set<std::string> keys_;
};

}  // namespace

absl::Status ParseHeaderText(absl::string_view text, absl::string_view label,
                             std::vector<TensorEntry>& tensors,
                             std::map<std::string, std::string>& metadata) {
  auto refuse = [&](absl::string_view what) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                         absl::StrCat(label, ": ", what),
                         {{"file", std::string(label)}});
  };
  if (text.empty() || text[0] != '{') {
    return refuse("the header does not begin with '{': not a safetensors file");
  }
  // The parser takes a NUL byte for the end of its input.
  if (size_t at = text.find('\0'); at != absl::string_view::npos) {
    return refuse(absl::StrCat("the header has a NUL at its byte ", at));
  }
  HeaderReader reader(label, tensors, metadata);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) {
    return reader.status();
  }
  return absl::OkStatus();
}

}  // namespace cairn::internal
