#ifndef CAIRN_MERGE_EVAL_TEXT_ITEMS_H_
#define CAIRN_MERGE_EVAL_TEXT_ITEMS_H_

#include <vector>

#include "absl/status/status.h"
#include "core/tensor/byte_source.h"
#include "merge/eval/items.h"
#include "merge/eval/suite.h"
#include "merge/model/model.h"

namespace cairn {

// Sets the ids of items that have only texts, as lm-evaluation-harness does:
//   perplexity: the prefix's ids and the text's;
//   multiple choice: the context and what it is continued by (the delimiter
//     and the choice) are tokenised together, and split after the context's
//     own ids; its trailing spaces belong to the choice. An empty context is
//     the prefix;
//   generation: the context's ids.
// `model_files` hold the tokenizer. UNSUPPORTED, naming an item and how to
// tokenise in Python, where there is none that is read here.
absl::Status TokeniseItems(const SuiteDescription& suite,
                           const LanguageModel& model,
                           const FileMap& model_files,
                           std::vector<PerplexityItem>& items);
absl::Status TokeniseItems(const SuiteDescription& suite,
                           const LanguageModel& model,
                           const FileMap& model_files,
                           std::vector<MultipleChoiceItem>& items);
absl::Status TokeniseItems(const SuiteDescription& suite,
                           const LanguageModel& model,
                           const FileMap& model_files,
                           std::vector<GenerationItem>& items);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_TEXT_ITEMS_H_
