#ifndef CAIRN_SERVER_TESTING_PIPELINE_FIXTURE_H_
#define CAIRN_SERVER_TESTING_PIPELINE_FIXTURE_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "server/flow/hub_store.h"
#include "server/flow/publisher.h"
#include "server/jobs/job_queue.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"
#include "storage/testing/faulty_metadata_store.h"

namespace cairn::testing {

inline constexpr char kModel[] = "models/m";

// How much better (d > 0) or worse weights are on a suite than the first
// release, by what was merged into them: short names of contributions.
using Effect = std::function<double(const std::set<std::string>& merged,
                                    const std::string& suite)>;

// A Publisher that writes releases without files or signatures.
class FakePublisher : public Publisher {
 public:
  explicit FakePublisher(HubStore& store) : store_(store) {}
  absl::StatusOr<store::v1::ReleaseRecord> Build(
      const Publication& publication) override;
  absl::Status Commit(HubTransaction& transaction,
                      const Publication& publication,
                      store::v1::ReleaseRecord release) override;
  std::vector<Publication> published;

 private:
  HubStore& store_;
};

// A hub's records in memory, and a worker whose scores are planted. Weights
// are one tensor "w" whose bytes name what was merged into them, so that the
// same merges give the same digest.
class Pipeline {
 public:
  Pipeline();

  // Records. The model has release v1.0.0 as its head, and no suites.
  void SetPolicy(const std::function<void(v1::Policy&)>& edit);
  // An ACTIVE suite unless told otherwise.
  void AddSuite(const std::string& id, bool is_protected = false,
                v1::Suite::State state = v1::Suite::ACTIVE);
  // A contribution "models/m/contributions/ID" on v1.0.0, in `state`.
  std::string AddContribution(
      const std::string& id,
      v1::Contribution::State state = v1::Contribution::QUEUED,
      const std::vector<std::string>& claims = {},
      const std::string& author = "users/alice");

  // Reads.
  template <class Record>
  Record Get(absl::string_view name) const {
    return *store().Read().Get<Record>(name);
  }
  v1::Contribution Contribution(const std::string& id) const;
  std::string State(const std::string& id) const;
  v1::Batch LastBatch() const;
  std::string Head() const;

  // Runs `stage` and the worker in turns until neither moves.
  void RunAll(const std::vector<Stage*>& stages);
  // Lets the worker do one job if there is one. A planned fault of the store
  // costs it this turn.
  bool WorkOnce();

  // What the worker makes of jobs; nullopt: its usual answer.
  std::function<std::optional<v1::JobFailure>(const v1::JobSpec&)> failure;
  // Changes what it hands in.
  std::function<void(const v1::JobSpec&, v1::JobResult&)> tamper;
  Effect effect = [](const std::set<std::string>&, const std::string&) {
    return 0.0;
  };
  std::vector<v1::JobSpec> jobs_done;

  // A new hub over the same records, as after a crash.
  void Restart();

  HubStore& store() const { return *store_; }
  MemoryBlobStore& blobs() { return blobs_; }
  JobQueue& jobs() { return *jobs_; }
  FakePublisher& publisher() { return *publisher_; }
  FakeClock& clock() { return clock_; }
  // Fails transactions on plan.
  FaultyMetadataStore& faults() { return faults_; }
  const Caller& worker() const { return worker_; }
  const std::string& session() const { return session_; }

 private:
  v1::JobResult Answer(const v1::JobSpec& spec);
  // What an attribution finds of a merge.
  void Explain(const v1::SearchSpec& search, const std::set<std::string>& head,
               const std::set<std::string>& merged, v1::SearchResult& found);
  v1::SplitScores Score(const std::set<std::string>& merged,
                        const v1::SuiteInput& suite, const std::string& split);
  // What is merged into weights, by their digest.
  std::set<std::string> MergedInto(const v1::ModelInput& input) const;
  store::v1::CandidateRecord MakeWeights(const std::set<std::string>& merged);

  FakeClock clock_{absl::FromUnixSeconds(1'780'000'000)};
  MemoryMetadataStore metadata_;
  FaultyMetadataStore faults_{metadata_};
  MemoryBlobStore blobs_{clock_};
  std::unique_ptr<HubStore> store_;
  std::unique_ptr<JobQueue> jobs_;
  std::unique_ptr<FakePublisher> publisher_;
  std::map<std::string, std::set<std::string>> merged_by_digest_;
  Caller worker_;
  std::string session_;
  int items_ = 48;
};

// The text of a status, for messages of failed assertions.
#define ASSERT_OK(expr) ASSERT_TRUE((expr).ok()) << (expr)
#define EXPECT_OK(expr) EXPECT_TRUE((expr).ok()) << (expr)

}  // namespace cairn::testing

#endif  // CAIRN_SERVER_TESTING_PIPELINE_FIXTURE_H_
