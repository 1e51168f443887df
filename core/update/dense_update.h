#ifndef CAIRN_CORE_UPDATE_DENSE_UPDATE_H_
#define CAIRN_CORE_UPDATE_DENSE_UPDATE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/update.h"

namespace cairn {

// Reads a dense update: whole replacement tensors under the base's names.
absl::StatusOr<std::unique_ptr<Update>> OpenDenseUpdate(
    SharedSource file, const SafetensorsHeader& header);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_DENSE_UPDATE_H_
