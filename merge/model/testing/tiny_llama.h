#ifndef CAIRN_MERGE_MODEL_TESTING_TINY_LLAMA_H_
#define CAIRN_MERGE_MODEL_TESTING_TINY_LLAMA_H_

#include <memory>
#include <string>

#include "core/tensor/byte_source.h"
#include "merge/model/llama.h"

namespace cairn::testing {

inline constexpr int64_t kTinyVocab = 13;
inline constexpr int64_t kTinyLongest = 300;

// config.json of a Llama with grouped queries; `more` are further keys, e.g.
// R"("tie_word_embeddings": true)".
std::string TinyConfig(const std::string& more = "");

// Seeded random weights that a configuration asks for.
ParameterMap TinyParameters(const LlamaConfig& config, bool has_head = true);

std::unique_ptr<Llama> MakeTinyLlama();

// The files of a checkpoint: config.json and model.safetensors.
FileMap MakeCheckpointFiles(const std::string& config_json,
                            const ParameterMap& parameters);

// Token ids [1, length].
at::Tensor SomeIds(int64_t length);

}  // namespace cairn::testing

#endif  // CAIRN_MERGE_MODEL_TESTING_TINY_LLAMA_H_
