#ifndef CAIRN_SERVER_SUITE_SUITE_READER_H_
#define CAIRN_SERVER_SUITE_SUITE_READER_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"

namespace cairn {

inline constexpr int64_t kSuiteBytesMax = int64_t{256} << 20;
inline constexpr char kSuiteFile[] = "suite.yaml";

// What the hub knows of a suite: its suite.yaml, and how many items each split
// has.
struct SuiteDescription {
  std::string kind;
  std::string metric;
  bool higher_is_better = false;
  bool compares_texts = false;  // of kind generation
  std::string description;
  std::string license;
  // search, gate, audit and, where there is one, dev -> file.
  std::map<std::string, std::string> splits;
  std::map<std::string, int64_t> split_items;
  // The file of classes, empty when there is none.
  std::string classes;
  // Digests of what the items of the gate split hold, their ids left out.
  std::set<std::string> gate_items;
};

// Reads a suite's directory whole and checks it as strictly as a worker will:
// known keys and fields only, every item of the suite's kind, unique ids, no
// path out of the directory, the three splits present and none empty. Memory
// is bounded by the longest line. INVALID_ARGUMENT with MALFORMED_FILE,
// FORBIDDEN_FILE or LIMIT_EXCEEDED; items are named as "gate.jsonl:5".
absl::StatusOr<SuiteDescription> ReadSuite(const FileMap& files);

}  // namespace cairn

#endif  // CAIRN_SERVER_SUITE_SUITE_READER_H_
