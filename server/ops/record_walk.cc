#include "server/ops/record_walk.h"

#include "core/base/status_macros.h"
#include "server/flow/contribution_state.h"
#include "server/flow/job_records.h"
#include "server/flow/tables.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::CandidateRecord;
using store::v1::ContributionRecord;
using store::v1::DeltaRecord;
using store::v1::JobRecord;
using store::v1::ReleaseRecord;
using store::v1::ReplayRecord;
using store::v1::SuiteRecord;

using Visit = std::function<void(const NamedBlob&)>;

template <typename Files>
void VisitFiles(const std::string& record, const Files& files,
                const Visit& visit) {
  for (const v1::File& file : files) {
    visit({record, file.sha256(), file.size_bytes()});
  }
}

void VisitRelease(const ReleaseRecord& record, const Visit& visit) {
  const std::string& name = record.release().name();
  for (const auto& file : record.files()) {
    for (const auto& segment : file.segments()) {
      visit({name, segment.sha256(), segment.size_bytes()});
    }
  }
  visit({name, record.release().tensor_manifest_sha256(), -1});
}

void VisitCandidate(const BlobStore& blobs, const std::string& record,
                    const CandidateRecord& candidate, const Visit& visit) {
  const std::string& sha256 = candidate.tensor_manifest_sha256();
  if (sha256.empty()) return;
  visit({record, sha256, -1});
  auto manifest = ReadTensorManifest(blobs, sha256);
  if (!manifest.ok()) return;
  for (const v1::Tensor& tensor : manifest->tensors()) {
    visit({record, tensor.sha256(), tensor.size_bytes()});
  }
}

void VisitBatch(const BlobStore& blobs, const BatchRecord& record,
                const Visit& visit) {
  if (IsOver(record.batch().state())) return;
  const std::string& name = record.batch().name();
  for (const auto& trial : record.trials()) {
    VisitCandidate(blobs, name, trial.candidate(), visit);
  }
  VisitCandidate(blobs, name, record.chosen(), visit);
}

}  // namespace

absl::Status ForEachNamedBlob(const HubReader& reader, const BlobStore& blobs,
                              const Visit& visit) {
  CAIRN_RETURN_IF_ERROR(
      ForEachRecord<ReleaseRecord>(reader, [&](const ReleaseRecord& record) {
        VisitRelease(record, visit);
        return absl::OkStatus();
      }));
  CAIRN_RETURN_IF_ERROR(
      ForEachRecord<SuiteRecord>(reader, [&](const SuiteRecord& record) {
        VisitFiles(record.suite().name(), record.files(), visit);
        return absl::OkStatus();
      }));
  CAIRN_RETURN_IF_ERROR(ForEachRecord<ContributionRecord>(
      reader, [&](const ContributionRecord& record) {
        if (!record.bytes_dropped()) {
          VisitFiles(record.contribution().name(),
                     record.contribution().files(), visit);
        }
        return absl::OkStatus();
      }));
  CAIRN_RETURN_IF_ERROR(
      ForEachRecord<DeltaRecord>(reader, [&](const DeltaRecord& record) {
        const v1::Delta& delta = record.delta();
        if (delta.state() == v1::Delta::READY) {
          visit({delta.name(), delta.sha256(), delta.size_bytes()});
        }
        return absl::OkStatus();
      }));
  CAIRN_RETURN_IF_ERROR(
      ForEachRecord<JobRecord>(reader, [&](const JobRecord& record) {
        if (!record.result_sha256().empty()) {
          visit({record.name(), record.result_sha256(), -1});
        }
        return absl::OkStatus();
      }));
  CAIRN_RETURN_IF_ERROR(
      ForEachRecord<BatchRecord>(reader, [&](const BatchRecord& record) {
        VisitBatch(blobs, record, visit);
        return absl::OkStatus();
      }));
  return ForEachRecord<ReplayRecord>(reader, [&](const ReplayRecord& record) {
    if (!record.replay().done()) {
      VisitCandidate(blobs, record.replay().name(), record.reached(), visit);
    }
    return absl::OkStatus();
  });
}

}  // namespace cairn
