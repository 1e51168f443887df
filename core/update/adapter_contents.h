#ifndef CAIRN_CORE_UPDATE_ADAPTER_CONTENTS_H_
#define CAIRN_CORE_UPDATE_ADAPTER_CONTENTS_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"

namespace cairn {

// The tensors of an adapter's file by what they are for. Points into a header
// that outlives it.
struct AdapterContents {
  // What the file holds for one module.
  struct Module {
    const TensorEntry* a = nullptr;
    const TensorEntry* b = nullptr;
    const TensorEntry* bias = nullptr;  // of B
    const TensorEntry* magnitude = nullptr;
    const TensorEntry* ia3 = nullptr;
    const TensorEntry* tokens = nullptr;
    const TensorEntry* shira = nullptr;
    const TensorEntry* shira_indices = nullptr;
    bool is_embedding = false;
  };

  std::map<std::string, Module> modules;
  // Tensors saved whole, by their names in the base.
  std::map<std::string, const TensorEntry*> whole;

  // INVALID_ARGUMENT for a name that peft does not write.
  absl::Status Add(const TensorEntry& entry);
};

// INVALID_ARGUMENT with `reason` about a tensor of an adapter's file.
absl::Status RefuseTensor(absl::string_view reason, absl::string_view key,
                          absl::string_view what);

// Whether two tensors of a file hold the same bytes.
absl::StatusOr<bool> HoldSameBytes(const ByteSource& file, const TensorEntry& a,
                                   const TensorEntry& b);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_ADAPTER_CONTENTS_H_
