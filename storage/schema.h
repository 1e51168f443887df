#ifndef CAIRN_STORAGE_SCHEMA_H_
#define CAIRN_STORAGE_SCHEMA_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "storage/metadata_store.h"

namespace cairn {

// One step forward of what a program stores.
struct SchemaStep {
  // What it does, for the log: "blobs may be packed".
  std::string what;
  // Rewrites the records of the version before. Runs in one transaction with
  // the new version, so a crash leaves the old records or the new ones.
  std::function<absl::Status(MetadataTransaction&)> apply;
};

// How a program stores things: version 1 and every step since. Steps are only
// ever added at the end. A store of an older version is brought forward when
// it is opened; one of a newer version is refused.
struct Schema {
  std::vector<SchemaStep> steps;

  int version() const { return 1 + static_cast<int>(steps.size()); }
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_SCHEMA_H_
