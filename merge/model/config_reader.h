#ifndef CAIRN_MERGE_MODEL_CONFIG_READER_H_
#define CAIRN_MERGE_MODEL_CONFIG_READER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/json_value.h"

namespace cairn {

// Reads keys of config.json, or of an object in it. The first fault is kept in
// status(), and what is read after it are fall-backs within bounds, so that a
// family reads all of its keys and asks once. Faults are DATA_LOSS with
// MALFORMED_FILE and name config.json, the key, and what would be right.
class ConfigReader {
 public:
  static absl::StatusOr<ConfigReader> Parse(absl::string_view config_json);

  absl::Status status() const { return *status_; }

  // An object's keys; its faults count as this reader's. None when the key is
  // absent or null.
  std::optional<ConfigReader> Object(const char* key);

  // Null when the key is absent or null.
  const JsonValue* Find(const char* key) const;
  bool Has(const char* key) const { return Find(key) != nullptr; }
  // Whether the key is there with the value null.
  bool IsNull(const char* key) const;

  // An integer from 1 to a bound that no sound model passes. Without a
  // fall-back the key must be there.
  int64_t Size(const char* key, std::optional<int64_t> fall_back = {});
  // A number of layers.
  int64_t Layers(const char* key, std::optional<int64_t> fall_back = {});
  // A token id.
  int64_t TokenId(const char* key, std::optional<int64_t> fall_back = {});
  double Positive(const char* key, std::optional<double> fall_back = {});
  bool Flag(const char* key, bool fall_back);
  std::string Text(const char* key, const std::string& fall_back);
  std::vector<double> Numbers(const char* key);
  std::vector<std::string> Texts(const char* key);

  // An id, a list of ids, or none, as bos_token_id and eos_token_id are.
  std::vector<int64_t> TokenIds(const char* key) const;

  // Keeps a fault of the reader's own finding about a key.
  void Fail(absl::string_view key, absl::string_view right);

 private:
  ConfigReader(std::shared_ptr<const JsonValue> root, const JsonValue* object,
               std::string prefix, std::shared_ptr<absl::Status> status)
      : root_(std::move(root)),
        object_(object),
        prefix_(std::move(prefix)),
        status_(std::move(status)) {}

  int64_t Integer(const char* key, std::optional<int64_t> fall_back,
                  int64_t min, int64_t max);
  void Missing(const char* key);

  // Readers of one file share the text and the first fault.
  std::shared_ptr<const JsonValue> root_;
  const JsonValue* object_;
  std::string prefix_;
  std::shared_ptr<absl::Status> status_;
};

// What is wrong with config.json in itself: DATA_LOSS with MALFORMED_FILE.
absl::Status MalformedConfig(absl::string_view message);
// What is sound in it but cannot be run here: UNIMPLEMENTED with UNSUPPORTED.
absl::Status UnsupportedConfig(absl::string_view message);

// The class that config.json names in `architectures`, else the one that its
// `model_type` implies, e.g. "LlamaForCausalLM". DATA_LOSS when the text is no
// JSON object or names neither.
absl::StatusOr<std::string> ArchitectureOf(absl::string_view config_json);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_CONFIG_READER_H_
