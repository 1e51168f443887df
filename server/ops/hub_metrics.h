#ifndef CAIRN_SERVER_OPS_HUB_METRICS_H_
#define CAIRN_SERVER_OPS_HUB_METRICS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "server/flow/hub_store.h"
#include "server/ops/stage_runner.h"

namespace cairn {

// Where the figures come from; read at every scrape.
struct MetricSources {
  const HubStore& store;
  const StageRunner& stages;
  std::function<int64_t()> uploaded_bytes;
  std::function<int64_t()> downloaded_bytes;
  std::function<int64_t()> open_streams;
  std::string version;
  // The care of blobs.
  std::function<int64_t()> scrubbed_bytes;
  std::function<int64_t()> damaged_blobs;
  std::function<int64_t()> packed_blobs;
  std::function<int64_t()> free_bytes;
};

// The hub's metrics in Prometheus' text format. Gauges of records are counted
// up to 10,000 a state. Errors: those of the store.
absl::StatusOr<std::string> RenderMetrics(const MetricSources& sources);

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_HUB_METRICS_H_
