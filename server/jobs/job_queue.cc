#include "server/jobs/job_queue.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/log.h"
#include "core/base/status_util.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"
#include "server/gate/score_book.h"
#include "server/jobs/job_kinds.h"
#include "server/jobs/named_blobs.h"

namespace cairn {
namespace {

using store::v1::AttemptRecord;
using store::v1::JobRecord;
using store::v1::SessionRecord;
using store::v1::UserRecord;

constexpr size_t kJobsScanned = 256;
constexpr size_t kJobsForgotten = 32;
constexpr int kAttemptsKept = 20;
constexpr size_t kInstanceIdBytesMax = 128;

std::string InstanceKey(absl::string_view worker, absl::string_view instance) {
  return absl::StrCat(worker, "\n", instance);
}

bool Contains(const google::protobuf::RepeatedPtrField<std::string>& list,
              absl::string_view wanted) {
  return std::any_of(list.begin(), list.end(), [&](const std::string& item) {
    return absl::string_view(item) == wanted;
  });
}

absl::Status StaleLease(absl::string_view job, int64_t token) {
  return absl::AbortedError(
      absl::StrCat("the lease ", token, " of ", job,
                   " is no longer held; drop its result and lease again"));
}

bool Holds(const JobRecord& job, const SessionRecord& session, int64_t token) {
  return job.state() == JobRecord::LEASED && job.fencing_token() == token &&
         job.lease().session() == session.name();
}

// Whether this instance let the job down before.
bool FailedBefore(const JobRecord& job, absl::string_view instance) {
  return std::any_of(job.attempts().begin(), job.attempts().end(),
                     [&](const AttemptRecord& attempt) {
                       return attempt.counted() &&
                              absl::string_view(attempt.instance_id()) ==
                                  instance;
                     });
}

// Weights whose scores the hub may have kept already.
const v1::ModelInput* BaseOf(const v1::JobSpec& spec) {
  if (spec.has_search()) return &spec.search().head();
  if (!spec.has_evaluate()) return nullptr;
  const v1::EvaluateSpec& work = spec.evaluate();
  // Without a candidate side the base is what is to be scored.
  return work.has_update() || work.has_candidate() ? &work.base() : nullptr;
}

std::string DtypeOf(const v1::JobSpec& spec) {
  return spec.has_search() ? spec.search().dtype() : spec.evaluate().dtype();
}

// Asks for scores of the base only where none are kept for the device class.
absl::Status FillScoreBase(const HubReader& reader,
                           const std::string& device_class, v1::JobSpec& spec) {
  const v1::ModelInput* base = BaseOf(spec);
  std::optional<ScoreKey> key;
  if (base != nullptr) {
    key = ScoreKey{.digest = DigestOf(*base),
                   .device_class = device_class,
                   .dtype = DtypeOf(spec)};
  }
  absl::Status status;
  ForEachSuite(spec, [&](v1::SuiteInput& suite) {
    suite.set_score_base(!key.has_value());
    if (!key.has_value()) return;
    for (const std::string& split : suite.splits()) {
      auto kept =
          FindScores(reader, *key, suite.suite(), suite.version(), split);
      if (!kept.ok()) status = kept.status();
      if (!kept.ok() || !kept->has_value()) suite.set_score_base(true);
    }
  });
  return status;
}

v1::JobFailure MakeFailure(v1::JobFailure::Cause cause, std::string message) {
  v1::JobFailure failure;
  failure.set_cause(cause);
  failure.mutable_reason()->set_code(v1::Reason::EVALUATION_FAILED);
  failure.mutable_reason()->set_message(std::move(message));
  return failure;
}

int CountedAttempts(const JobRecord& job) {
  return static_cast<int>(
      std::count_if(job.attempts().begin(), job.attempts().end(),
                    [](const AttemptRecord& a) { return a.counted(); }));
}

void RecordAttempt(JobRecord& job, const v1::JobFailure& failure, bool counts,
                   absl::Time now) {
  if (job.attempts_size() >= kAttemptsKept) {
    // The oldest that does not count goes; those that count are few.
    auto& attempts = *job.mutable_attempts();
    auto old = std::find_if(
        attempts.begin(), attempts.end(),
        [](const AttemptRecord& attempt) { return !attempt.counted(); });
    if (old != attempts.end()) attempts.erase(old);
  }
  AttemptRecord& attempt = *job.add_attempts();
  attempt.set_worker(job.lease().worker());
  attempt.set_instance_id(job.lease().instance_id());
  *attempt.mutable_failure() = failure;
  attempt.set_counted(counts);
  *attempt.mutable_create_time() = ToTimestamp(now);
}

absl::Status CheckInstance(const v1::OpenSessionRequest& request) {
  if (request.instance_id().empty() ||
      request.instance_id().size() > kInstanceIdBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("instance_id must have 1 to ", kInstanceIdBytesMax,
                     " bytes; it has ", request.instance_id().size()));
  }
  if (request.device_class().empty() ||
      request.device_class().size() > kInstanceIdBytesMax) {
    return absl::InvalidArgumentError(
        "device_class must name the machine's ISA, BLAS and dtype");
  }
  return absl::OkStatus();
}

}  // namespace

JobQueue::JobQueue(HubStore& store, const BlobStore& blobs, Clock& clock,
                   JobQueueOptions options)
    : store_(store),
      blobs_(blobs),
      clock_(clock),
      options_(options),
      started_at_(clock.Now()) {
  // Workers that were there before a restart are taken to be there still,
  // until a TTL passes without a word from them.
  auto sessions = store_.Read().ListAll<SessionRecord>("");
  if (!sessions.ok()) return;
  for (const SessionRecord& session : *sessions) Heard(session);
}

absl::StatusOr<v1::Session> JobQueue::OpenSession(
    const Caller& caller, const v1::OpenSessionRequest& request) {
  CAIRN_RETURN_IF_ERROR(CheckInstance(request));
  SessionRecord session;
  session.set_name(absl::StrCat("sessions/", ToHex(RandomBytes(8))));
  session.set_worker(caller.user);
  session.set_instance_id(request.instance_id());
  session.set_device_class(request.device_class());
  for (const std::string& kind : request.kinds()) {
    if (kind != kEvaluateKind && kind != kMergeKind) {
      return absl::InvalidArgumentError(
          absl::StrCat("kinds holds '", kind, "'; there are '", kEvaluateKind,
                       "' and '", kMergeKind, "'"));
    }
    if (std::find(caller.trust.begin(), caller.trust.end(), kind) !=
        caller.trust.end()) {
      session.add_kinds(kind);
    }
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    *session.mutable_create_time() = ToTimestamp(transaction.now());
    CAIRN_ASSIGN_OR_RETURN(auto others, transaction.ListAll<SessionRecord>(""));
    for (const SessionRecord& other : others) {
      if (other.worker() == session.worker() &&
          other.instance_id() == session.instance_id()) {
        CAIRN_RETURN_IF_ERROR(transaction.Delete<SessionRecord>(other.name()));
      }
    }
    CAIRN_RETURN_IF_ERROR(FreeLeases(
        transaction,
        [&](const store::v1::LeaseRecord& lease) {
          return lease.worker() == session.worker() &&
                 lease.instance_id() == session.instance_id();
        },
        "the worker started anew"));
    return transaction.Put(session);
  });
  if (!committed.ok()) return committed;
  Heard(session);
  v1::Session out;
  out.set_name(session.name());
  out.mutable_lease_ttl()->set_seconds(
      absl::ToInt64Seconds(options_.lease_ttl));
  out.mutable_heartbeat_interval()->set_seconds(
      absl::ToInt64Seconds(options_.heartbeat_interval));
  return out;
}

absl::StatusOr<SessionRecord> JobQueue::OwnSession(
    const HubReader& reader, const Caller& caller,
    absl::string_view session) const {
  CAIRN_ASSIGN_OR_RETURN(auto record, reader.Find<SessionRecord>(session));
  if (!record.has_value() || record->worker() != caller.user) {
    return absl::NotFoundError(
        absl::StrCat("session '", session,
                     "' does not exist or was replaced; open a new one"));
  }
  return *std::move(record);
}

absl::StatusOr<v1::LeaseJobResponse> JobQueue::Lease(
    const Caller& caller, absl::string_view session_name) {
  v1::LeaseJobResponse response;
  bool taken = false;
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(SessionRecord session,
                         OwnSession(snapshot, caller, session_name));
  Heard(session);
  // Nothing to do is the common case; it must not cost a durable write.
  CAIRN_ASSIGN_OR_RETURN(auto pending,
                         snapshot.FindBy<JobRecord>(kJobByState, "PENDING", 1));
  CAIRN_ASSIGN_OR_RETURN(bool has_one, HoldsLease(snapshot, session));
  if (pending.empty() && !has_one) return response;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    taken = false;
    response.Clear();
    CAIRN_ASSIGN_OR_RETURN(session,
                           OwnSession(transaction, caller, session_name));
    // A worker does one job at a time: if it asks while it has one, the answer
    // that gave it that job was lost.
    CAIRN_RETURN_IF_ERROR(FreeLeases(
        transaction,
        [&](const store::v1::LeaseRecord& lease) {
          return lease.session() == session.name();
        },
        "the worker asked for a job again"));
    v1::Lease lease;
    CAIRN_ASSIGN_OR_RETURN(taken, TakeOne(transaction, caller, session, lease));
    // Nothing was written, so there is nothing to commit.
    if (!taken) return absl::CancelledError();
    *response.mutable_lease() = std::move(lease);
    return absl::OkStatus();
  });
  if (absl::IsCancelled(committed)) return response;
  if (!committed.ok()) return committed;
  Extend(response.lease().job(), response.lease().fencing_token());
  return response;
}

absl::Status JobQueue::FreeLeases(
    HubTransaction& transaction,
    const std::function<bool(const store::v1::LeaseRecord&)>& is_meant,
    absl::string_view why) const {
  CAIRN_ASSIGN_OR_RETURN(auto leased,
                         transaction.FindBy<JobRecord>(kJobByState, "LEASED"));
  for (JobRecord& job : leased) {
    if (!is_meant(job.lease())) continue;
    CAIRN_RETURN_IF_ERROR(EndAttempt(
        transaction, job, MakeFailure(v1::JobFailure::WORKER, std::string(why)),
        /*counts=*/false));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> JobQueue::HoldsLease(const HubReader& reader,
                                          const SessionRecord& session) const {
  CAIRN_ASSIGN_OR_RETURN(auto leased,
                         reader.FindBy<JobRecord>(kJobByState, "LEASED"));
  return std::any_of(leased.begin(), leased.end(), [&](const JobRecord& job) {
    return job.lease().session() == session.name();
  });
}

absl::StatusOr<bool> JobQueue::TakeOne(HubTransaction& transaction,
                                       const Caller& caller,
                                       const SessionRecord& session,
                                       v1::Lease& lease) const {
  CAIRN_ASSIGN_OR_RETURN(
      auto pending,
      transaction.FindBy<JobRecord>(kJobByState, "PENDING", kJobsScanned));
  PutUrgentFirst(pending);
  for (JobRecord& job : pending) {
    if (!Contains(session.kinds(), job.kind()) ||
        std::find(caller.trust.begin(), caller.trust.end(), job.kind()) ==
            caller.trust.end() ||
        Contains(job.excluded_instances(), session.instance_id())) {
      continue;
    }
    if (FailedBefore(job, session.instance_id()) &&
        HasOtherWorker(job.kind(),
                       InstanceKey(session.worker(), session.instance_id()))) {
      continue;
    }
    CAIRN_RETURN_IF_ERROR(FillScoreBase(transaction, session.device_class(),
                                        *job.mutable_spec()));
    CAIRN_RETURN_IF_ERROR(Move(job, JobRecord::LEASED, transaction.now()));
    job.set_fencing_token(job.fencing_token() + 1);
    auto& held = *job.mutable_lease();
    held.set_session(session.name());
    held.set_worker(session.worker());
    held.set_instance_id(session.instance_id());
    held.set_device_class(session.device_class());
    *held.mutable_create_time() = ToTimestamp(transaction.now());
    CAIRN_RETURN_IF_ERROR(transaction.Put(job));
    lease.set_job(job.name());
    lease.set_fencing_token(job.fencing_token());
    lease.set_model(job.model());
    lease.set_attempt(CountedAttempts(job) + 1);
    *lease.mutable_spec() = job.spec();
    return true;
  }
  return false;
}

absl::StatusOr<v1::HeartbeatResponse> JobQueue::Heartbeat(
    const Caller& caller, const v1::HeartbeatRequest& request) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(SessionRecord session,
                         OwnSession(snapshot, caller, request.session()));
  Heard(session);
  CAIRN_ASSIGN_OR_RETURN(auto job, snapshot.Get<JobRecord>(request.job()));
  v1::HeartbeatResponse response;
  response.set_cancelled(!Holds(job, session, request.fencing_token()));
  if (!response.cancelled()) Extend(job.name(), job.fencing_token());
  return response;
}

absl::Status JobQueue::CheckResult(const JobRecord& job,
                                   absl::string_view sha256) const {
  JobRecord claimed = job;
  claimed.set_result_sha256(std::string(sha256));
  auto result = ReadJobResult(blobs_, claimed);
  if (!result.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("result_sha256 must name an uploaded JobResult: ",
                     result.status().message()));
  }
  if (!Answers(*result, job.spec())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the result of ", job.name(), " does not answer what it was asked"));
  }
  if (result->device_class() != job.lease().device_class()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the result of ", job.name(), " is of device class '",
        result->device_class(), "', but its worker's session is of '",
        job.lease().device_class(), "'"));
  }
  return absl::OkStatus();
}

absl::Status JobQueue::Complete(const Caller& caller,
                                const v1::CompleteJobRequest& request) {
  const int64_t token = request.fencing_token();
  {
    HubSnapshot snapshot = store_.Read();
    CAIRN_ASSIGN_OR_RETURN(auto job, snapshot.Get<JobRecord>(request.job()));
    if (IsOver(job.state()) && job.completed_token() == token && token != 0 &&
        job.result_sha256() == request.result_sha256()) {
      return absl::OkStatus();
    }
    CAIRN_ASSIGN_OR_RETURN(auto session,
                           OwnSession(snapshot, caller, request.session()));
    if (!Holds(job, session, token)) return StaleLease(job.name(), token);
    if (request.has_failure() == !request.result_sha256().empty()) {
      return absl::InvalidArgumentError(
          "exactly one of result_sha256 and failure is needed");
    }
    if (!request.has_failure()) {
      CAIRN_RETURN_IF_ERROR(CheckResult(job, request.result_sha256()));
    }
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto job, transaction.Get<JobRecord>(request.job()));
    CAIRN_ASSIGN_OR_RETURN(auto session,
                           OwnSession(transaction, caller, request.session()));
    if (!Holds(job, session, token)) return StaleLease(job.name(), token);
    job.set_completed_token(token);
    job.set_completed_by(job.lease().instance_id());
    if (request.has_failure()) {
      // A restart of the hub may be what made a worker fail: that is not
      // held against the job.
      const bool restarted =
          request.failure().cause() == v1::JobFailure::WORKER &&
          FromTimestamp(job.lease().create_time()) < started_at_;
      return EndAttempt(transaction, job, request.failure(), !restarted);
    }
    job.set_result_sha256(request.result_sha256());
    CAIRN_RETURN_IF_ERROR(Move(job, JobRecord::DONE, transaction.now()));
    return transaction.Put(job);
  });
  if (!committed.ok()) return committed;
  Forget(request.job());
  return absl::OkStatus();
}

absl::Status JobQueue::EndAttempt(HubTransaction& transaction, JobRecord& job,
                                  const v1::JobFailure& failure,
                                  bool counts) const {
  RecordAttempt(job, failure, counts, transaction.now());
  CAIRN_LOG(kWarning, job.name(), " (", job.subject(), ") ended on ",
            job.lease().worker(), ": ", failure.reason().message());
  const bool is_final = failure.cause() == v1::JobFailure::INPUT ||
                        CountedAttempts(job) >= options_.attempts_max;
  if (is_final) {
    *job.mutable_failure() = failure.reason();
    job.set_failure_cause(failure.cause());
    CAIRN_RETURN_IF_ERROR(Move(job, JobRecord::FAILED, transaction.now()));
  } else {
    CAIRN_RETURN_IF_ERROR(Move(job, JobRecord::PENDING, transaction.now()));
  }
  job.clear_lease();
  return transaction.Put(job);
}

absl::Status JobQueue::CheckLeasedBlob(const Caller& caller,
                                       const v1::LeasedBlob& blob) const {
  const absl::Status denied = absl::PermissionDeniedError(
      absl::StrCat("the lease ", blob.fencing_token(), " of ", blob.job(),
                   " does not name blob ", blob.sha256()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto job, snapshot.Find<JobRecord>(blob.job()));
  if (!job.has_value() || job->state() != JobRecord::LEASED ||
      job->fencing_token() != blob.fencing_token() ||
      job->lease().worker() != caller.user) {
    return denied;
  }
  NamedBlobs named = BlobsNamedBy(job->spec());
  if (std::find(named.blobs.begin(), named.blobs.end(), blob.sha256()) !=
      named.blobs.end()) {
    return absl::OkStatus();
  }
  for (const std::string& manifest : named.candidate_manifests) {
    {
      MutexLock lock(mutex_);
      if (manifest_ == manifest &&
          std::binary_search(manifest_blobs_.begin(), manifest_blobs_.end(),
                             blob.sha256())) {
        return absl::OkStatus();
      }
      if (manifest_ == manifest) continue;
    }
    CAIRN_ASSIGN_OR_RETURN(auto tensors, ReadTensorManifest(blobs_, manifest));
    std::vector<std::string> digests;
    for (const v1::Tensor& tensor : tensors.tensors()) {
      digests.push_back(tensor.sha256());
    }
    std::sort(digests.begin(), digests.end());
    const bool found =
        std::binary_search(digests.begin(), digests.end(), blob.sha256());
    MutexLock lock(mutex_);
    manifest_ = manifest;
    manifest_blobs_ = std::move(digests);
    if (found) return absl::OkStatus();
  }
  return denied;
}

bool JobQueue::HasWorker(absl::string_view kind) const {
  return HasOtherWorker(kind, "");
}

bool JobQueue::HasOtherWorker(absl::string_view kind,
                              absl::string_view instance_key) const {
  const absl::Duration now = clock_.Monotonic();
  MutexLock lock(mutex_);
  for (const auto& [key, presence] : present_) {
    if (key == instance_key || now - presence.last_heard > options_.lease_ttl) {
      continue;
    }
    if (std::find(presence.kinds.begin(), presence.kinds.end(), kind) !=
        presence.kinds.end()) {
      return true;
    }
  }
  return false;
}

absl::StatusOr<int> JobQueue::RunPass() {
  CAIRN_ASSIGN_OR_RETURN(int leases, ReapLeases());
  CAIRN_ASSIGN_OR_RETURN(int sessions, ForgetSessions());
  CAIRN_ASSIGN_OR_RETURN(int jobs, ForgetJobs());
  return leases + sessions + jobs;
}

absl::StatusOr<int> JobQueue::ReapLeases() {
  CAIRN_ASSIGN_OR_RETURN(auto leased, store_.Read().FindBy<JobRecord>(
                                          kJobByState, "LEASED", kJobsScanned));
  int moved = 0;
  for (const JobRecord& job : leased) {
    if (!IsExpired(job.name(), job.fencing_token())) continue;
    CAIRN_RETURN_IF_ERROR(ReapOne(job.name(), job.fencing_token()));
    Forget(job.name());
    ++moved;
  }
  return moved;
}

absl::StatusOr<int> JobQueue::ForgetSessions() {
  CAIRN_ASSIGN_OR_RETURN(auto sessions,
                         store_.Read().ListAll<SessionRecord>(""));
  int moved = 0;
  for (const SessionRecord& session : sessions) {
    absl::Duration silent;
    {
      MutexLock lock(mutex_);
      auto found =
          present_.find(InstanceKey(session.worker(), session.instance_id()));
      if (found == present_.end()) continue;
      silent = clock_.Monotonic() - found->second.last_heard;
      if (silent > options_.session_ttl) present_.erase(found);
    }
    if (silent <= options_.session_ttl) continue;
    CAIRN_RETURN_IF_ERROR(store_.Transact([&](HubTransaction& transaction) {
      return transaction.Delete<SessionRecord>(session.name());
    }));
    ++moved;
  }
  return moved;
}

absl::StatusOr<int> JobQueue::ForgetJobs() {
  const absl::Time before = clock_.Now() - options_.keep_over;
  HubSnapshot snapshot = store_.Read();
  int moved = 0;
  for (const char* state : {"DONE", "FAILED"}) {
    // Oldest first: what comes after a young one is younger still.
    CAIRN_ASSIGN_OR_RETURN(auto over, snapshot.FindBy<JobRecord>(
                                          kJobByState, state, kJobsForgotten));
    for (const JobRecord& job : over) {
      if (FromTimestamp(job.update_time()) > before) break;
      CAIRN_RETURN_IF_ERROR(store_.Transact([&](HubTransaction& transaction) {
        return transaction.Delete<JobRecord>(job.name());
      }));
      ++moved;
    }
  }
  return moved;
}

absl::Status JobQueue::ReapOne(const std::string& name, int64_t token) {
  return store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto job, transaction.Get<JobRecord>(name));
    if (job.state() != JobRecord::LEASED || job.fencing_token() != token) {
      return absl::OkStatus();
    }
    return EndAttempt(
        transaction, job,
        MakeFailure(v1::JobFailure::WORKER,
                    "the worker fell silent while it had the job"),
        /*counts=*/true);
  });
}

void JobQueue::Heard(const SessionRecord& session) {
  const absl::Duration now = clock_.Monotonic();
  MutexLock lock(mutex_);
  Presence& presence =
      present_[InstanceKey(session.worker(), session.instance_id())];
  presence.last_heard = now;
  presence.kinds.assign(session.kinds().begin(), session.kinds().end());
}

void JobQueue::Extend(const std::string& job, int64_t token) {
  const absl::Duration deadline = clock_.Monotonic() + options_.lease_ttl;
  MutexLock lock(mutex_);
  leases_[job] = {.token = token, .deadline = deadline};
}

void JobQueue::Forget(const std::string& job) {
  MutexLock lock(mutex_);
  leases_.erase(job);
}

bool JobQueue::IsExpired(const std::string& job, int64_t token) {
  const absl::Duration now = clock_.Monotonic();
  MutexLock lock(mutex_);
  auto [entry, is_new] = leases_.try_emplace(job);
  if (is_new || entry->second.token != token) {
    // Unknown since a restart: one TTL from now.
    entry->second = {.token = token, .deadline = now + options_.lease_ttl};
    return false;
  }
  return now >= entry->second.deadline;
}

}  // namespace cairn
