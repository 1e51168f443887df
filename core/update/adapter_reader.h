#ifndef CAIRN_CORE_UPDATE_ADAPTER_READER_H_
#define CAIRN_CORE_UPDATE_ADAPTER_READER_H_

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/adapter_config.h"
#include "core/update/adapter_steps.h"
#include "core/update/base_model.h"

namespace cairn {

// What becomes of a vocabulary of another size, and of a head that the base
// ties to its embeddings and the adapter does not.
enum class Vocabulary {
  // As peft does it: tensors take the adapter's size, the head is untied.
  kOfTheAdapter,
  // The base's shapes stay, as a release's do: rows past the adapter's are the
  // base's own; a larger vocabulary or an untied head is refused.
  kOfTheBase,
};

// The file of a PEFT adapter, open.
struct AdapterFile {
  const ByteSource* weights = nullptr;
  const SafetensorsHeader* header = nullptr;
  const AdapterConfig* config = nullptr;
};

// Finds out what every tensor of an adapter does, from headers (of SHiRA also
// the positions): LoRA on linear layers, embeddings, convolutions and fused
// experts, DoRA, biases, modules saved whole, trained tokens, IA3 and SHiRA.
// Without a base (null) shapes are those that the adapter implies;
// FAILED_PRECONDITION naming the tensor when it implies none. INVALID_ARGUMENT
// with a reason, naming file and tensor, for what does not fit.
absl::StatusOr<AdapterPlan> ReadAdapter(const AdapterFile& file,
                                        const BaseModel* base,
                                        Vocabulary vocabulary);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_ADAPTER_READER_H_
