#ifndef CAIRN_MERGE_COMPRESS_LORA_FIT_H_
#define CAIRN_MERGE_COMPRESS_LORA_FIT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "merge/compress/change_source.h"

namespace cairn {

struct LoraFitOptions {
  int64_t rank = 16;
  // Matrices that are fitted at once; the bytes do not depend on it.
  int threads = 1;
  // config.json of the base; GPT-2 stores its matrices transposed.
  std::string base_config_json = "";
  // What adapter_config.json says of the base.
  std::string base_path = "";
};

// Writes the nearest LoRA of that rank to a change as a PEFT directory:
// FitLowRank() of every matrix `MODULE.weight` that changed, embeddings and
// heads left out, with alpha = r. What else changed is not in it.
// FAILED_PRECONDITION when nothing is left.
absl::Status WriteFittedLora(const ChangeSource& source,
                             const std::string& directory,
                             const LoraFitOptions& options);

}  // namespace cairn

#endif  // CAIRN_MERGE_COMPRESS_LORA_FIT_H_
