#ifndef CAIRN_CORE_UPDATE_BASE_MODEL_H_
#define CAIRN_CORE_UPDATE_BASE_MODEL_H_

#include <string>

#include "absl/strings/string_view.h"
#include "cairn/v1/common.pb.h"
#include "core/tensor/checkpoint.h"

namespace cairn {

// What reading an update takes of the base that it was made on. Borrowed for
// the call.
struct BaseModel {
  const v1::TensorManifest* tensors = nullptr;  // sorted by name
  absl::string_view config_json = {};           // empty when it is not known
};

// Names, types and shapes from the headers alone: without digests.
v1::TensorManifest TensorsOf(const Checkpoint& checkpoint);

// The names that share most with `name` at their two ends, quoted, for
// messages.
std::string NearestNames(const v1::TensorManifest& tensors,
                         absl::string_view name);

// Whether a configuration says that the output head is the embeddings.
bool TiesEmbeddings(absl::string_view config_json);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_BASE_MODEL_H_
