#ifndef CAIRN_CORE_UPDATE_SPARSE_UPDATE_H_
#define CAIRN_CORE_UPDATE_SPARSE_UPDATE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/update.h"

namespace cairn {

// Reads a sparse update of the first version (layout in README.md); what is
// written now is a coded update. Every position is checked when it is opened,
// so that reading cannot meet a malformed one.
absl::StatusOr<std::unique_ptr<Update>> OpenSparseUpdate(
    SharedSource file, const SafetensorsHeader& header);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_SPARSE_UPDATE_H_
