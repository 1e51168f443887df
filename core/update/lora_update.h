#ifndef CAIRN_CORE_UPDATE_LORA_UPDATE_H_
#define CAIRN_CORE_UPDATE_LORA_UPDATE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/update/update.h"

namespace cairn {

// Reads a PEFT LoRA on linear layers. Every tensor of the weights file must be
// a factor of a module that target_modules names, in pairs, of the rank that
// the configuration gives; whatever else peft can store is refused by name.
absl::StatusOr<std::unique_ptr<Update>> OpenLoraUpdate(const ByteSource& config,
                                                       SharedSource weights);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_LORA_UPDATE_H_
