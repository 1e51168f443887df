#ifndef CAIRN_MERGE_MODEL_TESTING_TINY_LLAMA_H_
#define CAIRN_MERGE_MODEL_TESTING_TINY_LLAMA_H_

#include <memory>
#include <string>

#include "core/tensor/byte_source.h"
#include "merge/model/model.h"

namespace cairn::testing {

inline constexpr int64_t kTinyVocab = 13;
inline constexpr int64_t kTinyLongest = 300;

// config.json of a Llama with grouped queries; `more` are further keys, or
// others in the place of its own, e.g. R"("tie_word_embeddings": true)".
std::string TinyConfig(const std::string& more = "");

// Seeded random weights of the model that config.json describes.
ParameterMap TinyParameters(const std::string& config_json = TinyConfig());

// A model with these values. Fails the test when they do not fit.
std::unique_ptr<LanguageModel> MakeTinyModel(const std::string& config_json,
                                             ParameterMap parameters);
std::unique_ptr<LanguageModel> MakeTinyLlama();

// The files of a checkpoint: config.json and model.safetensors.
FileMap MakeCheckpointFiles(const std::string& config_json,
                            const ParameterMap& parameters);

// Token ids [1, length].
at::Tensor SomeIds(int64_t length);

}  // namespace cairn::testing

#endif  // CAIRN_MERGE_MODEL_TESTING_TINY_LLAMA_H_
