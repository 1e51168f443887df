#ifndef CAIRN_MERGE_RECIPE_YAML_DOCUMENTS_H_
#define CAIRN_MERGE_RECIPE_YAML_DOCUMENTS_H_

#include <string>

namespace cairn {

// Whether a text holds more than so many YAML documents. Of some texts that
// are no YAML, yaml-cpp 0.7 reads documents without end, and LoadAll() would
// keep them all. Throws YAML::Exception.
bool HasMoreDocuments(const std::string& text, int count);

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_YAML_DOCUMENTS_H_
