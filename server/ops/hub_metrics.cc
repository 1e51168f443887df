#include "server/ops/hub_metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <fstream>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "server/flow/tables.h"

namespace cairn {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<std::pair<std::string, std::string>>;

constexpr size_t kCountMax = 10'000;

MetricFamily NewFamily(std::string name, std::string help, MetricType type) {
  MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = type;
  return family;
}

void Add(MetricFamily& family, const Labels& labels, double value) {
  ClientMetric metric;
  for (const auto& [name, text] : labels) {
    metric.label.push_back({name, text});
  }
  if (family.type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(std::move(metric));
}

MetricFamily Single(std::string name, std::string help, MetricType type,
                    double value) {
  MetricFamily family = NewFamily(std::move(name), std::move(help), type);
  Add(family, {}, value);
  return family;
}

// Resident bytes of this process; 0 where /proc does not say.
double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident) *
         static_cast<double>(sysconf(_SC_PAGESIZE));
}

template <class Record, typename State>
absl::Status AddStates(const HubReader& reader, absl::string_view index,
                       std::initializer_list<State> states,
                       const std::string& (*name)(State),
                       MetricFamily& family) {
  for (State state : states) {
    CAIRN_ASSIGN_OR_RETURN(
        auto records, reader.FindBy<Record>(index, name(state), kCountMax));
    Add(family, {{"state", name(state)}}, static_cast<double>(records.size()));
  }
  return absl::OkStatus();
}

absl::Status AddRecords(const HubStore& store,
                        std::vector<MetricFamily>& families) {
  using Contribution = v1::Contribution;
  using Job = store::v1::JobRecord;
  HubSnapshot snapshot = store.Read();
  MetricFamily jobs = NewFamily(
      "cairn_jobs", "Jobs that are not over, by state", MetricType::Gauge);
  CAIRN_RETURN_IF_ERROR((AddStates<Job, Job::State>(snapshot, kJobByState,
                                                    {Job::PENDING, Job::LEASED},
                                                    &Job::State_Name, jobs)));
  families.push_back(std::move(jobs));
  MetricFamily contributions = NewFamily(
      "cairn_contributions", "Contributions that are under way, by state",
      MetricType::Gauge);
  CAIRN_RETURN_IF_ERROR(
      (AddStates<store::v1::ContributionRecord, Contribution::State>(
          snapshot, kContributionByState,
          {Contribution::RECEIVED, Contribution::SCREENED,
           Contribution::EVALUATED, Contribution::NEEDS_REVIEW,
           Contribution::QUEUED, Contribution::BATCHED},
          &Contribution::State_Name, contributions)));
  families.push_back(std::move(contributions));
  return absl::OkStatus();
}

void AddStages(const StageRunner& runner, std::vector<MetricFamily>& families) {
  MetricFamily moved =
      NewFamily("cairn_stage_moved_total", "Records that each stage moved",
                MetricType::Counter);
  MetricFamily failures =
      NewFamily("cairn_stage_failures_total", "Passes of a stage that failed",
                MetricType::Counter);
  for (const auto& tally : runner.tallies()) {
    Labels labels = {{"stage", std::string(tally->stage->name())}};
    Add(moved, labels, static_cast<double>(tally->moved));
    Add(failures, labels, static_cast<double>(tally->failures));
  }
  families.push_back(std::move(moved));
  families.push_back(std::move(failures));
}

void AddStorage(const MetricSources& sources,
                std::vector<MetricFamily>& families) {
  auto add = [&](std::string name, std::string help, MetricType type,
                 const std::function<int64_t()>& value) {
    families.push_back(Single(std::move(name), std::move(help), type,
                              static_cast<double>(value())));
  };
  add("cairn_scrubbed_bytes_total",
      "Bytes of blobs read again to find damage, since the start",
      MetricType::Counter, sources.scrubbed_bytes);
  add("cairn_damaged_blobs", "Blobs known to be damaged", MetricType::Gauge,
      sources.damaged_blobs);
  add("cairn_packed_blobs_total", "Blobs packed since the start",
      MetricType::Counter, sources.packed_blobs);
  add("cairn_disk_free_bytes", "Bytes free on the disk of the blobs",
      MetricType::Gauge, sources.free_bytes);
}

}  // namespace

absl::StatusOr<std::string> RenderMetrics(const MetricSources& sources) {
  std::vector<MetricFamily> families;
  MetricFamily build =
      NewFamily("cairn_build_info", "Version of the hub", MetricType::Gauge);
  Add(build, {{"version", sources.version}}, 1);
  families.push_back(std::move(build));
  families.push_back(Single(
      "cairn_uploads_bytes_total", "Bytes received in uploads since the start",
      MetricType::Counter, static_cast<double>(sources.uploaded_bytes())));
  families.push_back(Single(
      "cairn_downloads_bytes_total", "Bytes sent in downloads since the start",
      MetricType::Counter, static_cast<double>(sources.downloaded_bytes())));
  families.push_back(Single("cairn_open_streams", "Streams that move data now",
                            MetricType::Gauge,
                            static_cast<double>(sources.open_streams())));
  AddStorage(sources, families);
  families.push_back(Single("process_resident_memory_bytes",
                            "Resident memory of the hub", MetricType::Gauge,
                            ResidentBytes()));
  CAIRN_RETURN_IF_ERROR(AddRecords(sources.store, families));
  AddStages(sources.stages, families);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace cairn
