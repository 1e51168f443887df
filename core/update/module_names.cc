#include "core/update/module_names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace cairn {
namespace {

constexpr char kLayersInFiles[] = "vit.encoder.layer.";
constexpr char kLayersInMemory[] = "vit.layers.";

struct Name {
  absl::string_view in_files;
  absl::string_view in_memory;
};

// Of the modules of a layer; what is not listed has one name.
constexpr Name kModules[] = {
    {"attention.attention.query", "attention.q_proj"},
    {"attention.attention.key", "attention.k_proj"},
    {"attention.attention.value", "attention.v_proj"},
    {"attention.output.dense", "attention.o_proj"},
    {"intermediate.dense", "mlp.fc1"},
    {"output.dense", "mlp.fc2"},
};

// Takes the number of a layer and its dot, "12.", from the front of `rest`;
// empty when there is none.
absl::string_view ConsumeIndex(absl::string_view& rest) {
  size_t digits = 0;
  while (digits < rest.size() &&
         absl::ascii_isdigit(static_cast<unsigned char>(rest[digits]))) {
    ++digits;
  }
  if (digits == 0 || digits == rest.size() || rest[digits] != '.') return "";
  const absl::string_view index = rest.substr(0, digits + 1);
  rest.remove_prefix(digits + 1);
  return index;
}

std::string Translate(absl::string_view name, absl::string_view layers_from,
                      absl::string_view layers_to,
                      absl::string_view Name::*from,
                      absl::string_view Name::*to) {
  absl::string_view rest = name;
  if (!absl::ConsumePrefix(&rest, layers_from)) return std::string(name);
  const absl::string_view index = ConsumeIndex(rest);
  if (index.empty()) return std::string(name);
  for (const Name& module : kModules) {
    absl::string_view end = rest;
    if (!absl::ConsumePrefix(&end, module.*from)) continue;
    if (!end.empty() && end[0] != '.') continue;
    return absl::StrCat(layers_to, index, module.*to, end);
  }
  return absl::StrCat(layers_to, index, rest);
}

}  // namespace

std::string NameInFiles(absl::string_view name) {
  return Translate(name, kLayersInMemory, kLayersInFiles, &Name::in_memory,
                   &Name::in_files);
}

std::string NameInMemory(absl::string_view name) {
  return Translate(name, kLayersInFiles, kLayersInMemory, &Name::in_files,
                   &Name::in_memory);
}

}  // namespace cairn
