// A worker against a hub that follows a plan, over real TLS connections. The
// job program is a script, so that jobs end as each test wants.

#include "merge/worker/worker_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <stop_token>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "cairn/v1/worker.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "tests/integration/local_server.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Hands out the leases it was given and remembers what came back.
class PlannedJobs : public v1::WorkerService::Service {
 public:
  void Add(v1::Lease lease) {
    MutexLock lock(mutex_);
    leases_.push_back(std::move(lease));
  }
  void RefuseCompletions(int times) {
    MutexLock lock(mutex_);
    refusals_ = times;
  }
  void CancelLeases() {
    MutexLock lock(mutex_);
    is_cancelled_ = true;
  }
  std::vector<v1::CompleteJobRequest> completed() {
    MutexLock lock(mutex_);
    return completed_;
  }
  std::vector<std::string> instances() {
    MutexLock lock(mutex_);
    return instances_;
  }

  grpc::Status OpenSession(grpc::ServerContext*,
                           const v1::OpenSessionRequest* request,
                           v1::Session* session) override {
    MutexLock lock(mutex_);
    instances_.push_back(request->instance_id());
    session->set_name("sessions/1");
    session->mutable_heartbeat_interval()->set_seconds(1);
    return grpc::Status::OK;
  }
  grpc::Status LeaseJob(grpc::ServerContext*, const v1::LeaseJobRequest*,
                        v1::LeaseJobResponse* response) override {
    {
      MutexLock lock(mutex_);
      if (!leases_.empty()) {
        *response->mutable_lease() = leases_.front();
        leases_.pop_front();
        return grpc::Status::OK;
      }
    }
    absl::SleepFor(absl::Milliseconds(20));
    return grpc::Status::OK;
  }
  grpc::Status Heartbeat(grpc::ServerContext*, const v1::HeartbeatRequest*,
                         v1::HeartbeatResponse* response) override {
    MutexLock lock(mutex_);
    response->set_cancelled(is_cancelled_);
    return grpc::Status::OK;
  }
  grpc::Status CompleteJob(grpc::ServerContext*,
                           const v1::CompleteJobRequest* request,
                           v1::CompleteJobResponse*) override {
    MutexLock lock(mutex_);
    if (refusals_-- > 0) return {grpc::StatusCode::UNAVAILABLE, "restarting"};
    completed_.push_back(*request);
    return grpc::Status::OK;
  }

 private:
  Mutex mutex_;
  std::deque<v1::Lease> leases_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::CompleteJobRequest> completed_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> instances_ ABSL_GUARDED_BY(mutex_);
  int refusals_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

// Blobs in memory, read by release file path or by digest.
class MemoryTransfers : public v1::DownloadService::Service,
                        public v1::UploadService::Service {
 public:
  std::map<std::string, std::string> bytes;
  std::map<std::string, std::string> uploaded;
  int reads = 0;

  grpc::Status Read(grpc::ServerContext*, const v1::ReadRequest* request,
                    grpc::ServerWriter<v1::ReadResponse>* writer) override {
    ++reads;
    auto found = bytes.find(request->has_release_file()
                                ? request->release_file().path()
                                : request->leased_blob().sha256());
    if (found == bytes.end()) {
      return {grpc::StatusCode::NOT_FOUND, "no such blob"};
    }
    v1::ReadResponse response;
    response.set_chunk(found->second);
    response.set_crc32c(Crc32c(found->second));
    response.set_size_bytes(static_cast<int64_t>(found->second.size()));
    response.set_sha256(Digest::Of(found->second).hex());
    writer->Write(response);
    return grpc::Status::OK;
  }
  grpc::Status FindMissing(grpc::ServerContext*,
                           const v1::FindMissingRequest* request,
                           v1::FindMissingResponse* response) override {
    *response->mutable_missing() = request->sha256();
    return grpc::Status::OK;
  }
  grpc::Status BatchUpload(grpc::ServerContext*,
                           const v1::BatchUploadRequest* request,
                           v1::BatchUploadResponse*) override {
    for (const auto& item : request->items()) {
      uploaded[item.sha256()] = item.data();
    }
    return grpc::Status::OK;
  }
};

class WorkerLoopTest : public ::testing::Test {
 protected:
  WorkerLoopTest() {
    char folder[] = "/tmp/cairn-worker-XXXXXX";
    root_ = mkdtemp(folder);
  }
  ~WorkerLoopTest() override { fs::remove_all(root_); }

  v1::File Serve(const std::string& path, const std::string& content,
                 bool is_release_file) {
    v1::File file;
    file.set_path(path);
    file.set_size_bytes(static_cast<int64_t>(content.size()));
    file.set_sha256(Digest::Of(content).hex());
    transfers_.bytes[is_release_file ? path : file.sha256()] = content;
    return file;
  }

  v1::Lease MakeLease(int number) {
    v1::Lease lease;
    lease.set_job(absl::StrCat("jobs/", number));
    lease.set_fencing_token(number);
    lease.set_model("models/m");
    v1::EvaluateSpec& spec = *lease.mutable_spec()->mutable_evaluate();
    v1::ReleaseInput& release = *spec.mutable_base()->mutable_release();
    release.set_name("models/m/releases/v1.0.0");
    release.set_digest(Digest::Of("release").prefixed());
    *release.add_files() = Serve("config.json", "{}", true);
    *spec.add_suites()->add_files() = Serve("suite.yaml", "name: s\n", false);
    return lease;
  }

  // Runs a worker whose jobs run `script` until `is_done` says so.
  absl::Status RunUntil(const std::string& script,
                        const std::function<bool()>& is_done) {
    const std::string program = root_ + "/job.sh";
    std::ofstream(program) << "#!/bin/sh\n" << script << "\n";
    chmod(program.c_str(), 0700);
    std::stop_source stop;
    std::unique_ptr<HubChannel> hub = server_.Connect(stop.get_token());
    auto loop = WorkerLoop::Create(*hub, {.scratch = root_ + "/scratch",
                                          .device_class = "test",
                                          .job_program = program});
    if (!loop.ok()) return loop.status();
    std::jthread watcher([&] {
      const absl::Time end = absl::Now() + absl::Seconds(30);
      while (!is_done() && absl::Now() < end) {
        absl::SleepFor(absl::Milliseconds(5));
      }
      stop.request_stop();
    });
    return (*loop)->Run();
  }

  std::vector<grpc::Service*> Services() {
    v1::DownloadService::Service& downloads = transfers_;
    v1::UploadService::Service& uploads = transfers_;
    return {&jobs_, &downloads, &uploads};
  }

  bool IsCompleted(size_t jobs) { return jobs_.completed().size() >= jobs; }

  std::string root_;
  PlannedJobs jobs_;
  MemoryTransfers transfers_;
  testing::LocalServer server_{Services()};
};

// $2 is the job's directory, $4 that of the releases.
constexpr char kSucceed[] =
    "[ -s $2/spec ] && [ -s $2/suites/0/suite.yaml ] && "
    "[ -s $4/*/config.json ] && printf result > $2/result";

TEST_F(WorkerLoopTest, StagesRunsAndHandsInAJob) {
  jobs_.Add(MakeLease(1));
  ASSERT_TRUE(RunUntil(kSucceed, [&] { return IsCompleted(1); }).ok());
  ASSERT_EQ(jobs_.completed().size(), 1u);
  const v1::CompleteJobRequest done = jobs_.completed()[0];
  EXPECT_EQ(done.job(), "jobs/1");
  EXPECT_EQ(done.fencing_token(), 1);
  EXPECT_EQ(done.result_sha256(), Digest::Of("result").hex());
  EXPECT_EQ(transfers_.uploaded.at(done.result_sha256()), "result");
}

TEST_F(WorkerLoopTest, WipesTheJobAndKeepsTheRelease) {
  jobs_.Add(MakeLease(1));
  jobs_.Add(MakeLease(2));
  ASSERT_TRUE(RunUntil(kSucceed, [&] { return IsCompleted(2); }).ok());
  EXPECT_TRUE(fs::is_empty(root_ + "/scratch/jobs"));
  EXPECT_FALSE(fs::is_empty(root_ + "/scratch/releases"));
  EXPECT_EQ(transfers_.reads, 3);  // the release once, the suite for each
}

TEST_F(WorkerLoopTest, ACrashOfTheJobIsAFailureNotTheEnd) {
  jobs_.Add(MakeLease(1));
  jobs_.Add(MakeLease(2));
  ASSERT_TRUE(RunUntil("case $2 in *jobs-1-1) kill -SEGV $$;; esac; "
                       "printf result > $2/result",
                       [&] { return IsCompleted(2); })
                  .ok());
  const auto completed = jobs_.completed();
  ASSERT_EQ(completed.size(), 2u);
  EXPECT_EQ(completed[0].failure().cause(), v1::JobFailure::CRASH);
  EXPECT_THAT(completed[0].failure().reason().message(), HasSubstr("SIGSEGV"));
  EXPECT_FALSE(completed[1].has_failure());
}

TEST_F(WorkerLoopTest, AJobWithoutAResultIsACrash) {
  jobs_.Add(MakeLease(1));
  ASSERT_TRUE(RunUntil("exit 0", [&] { return IsCompleted(1); }).ok());
  EXPECT_EQ(jobs_.completed()[0].failure().cause(), v1::JobFailure::CRASH);
}

TEST_F(WorkerLoopTest, ABlobThatIsNotThereIsAFailureOfTheWorker) {
  v1::Lease lease = MakeLease(1);
  transfers_.bytes.clear();
  jobs_.Add(lease);
  ASSERT_TRUE(RunUntil(kSucceed, [&] { return IsCompleted(1); }).ok());
  EXPECT_EQ(jobs_.completed()[0].failure().cause(), v1::JobFailure::WORKER);
}

TEST_F(WorkerLoopTest, HandsInWhenTheHubIsBack) {
  jobs_.RefuseCompletions(3);
  jobs_.Add(MakeLease(1));
  ASSERT_TRUE(RunUntil(kSucceed, [&] { return IsCompleted(1); }).ok());
  EXPECT_EQ(jobs_.completed().size(), 1u);
}

TEST_F(WorkerLoopTest, GivesUpAJobWhoseLeaseIsLost) {
  jobs_.CancelLeases();
  jobs_.Add(MakeLease(1));
  const std::string started = root_ + "/started";
  const absl::Time start = absl::Now();
  ASSERT_TRUE(RunUntil(absl::StrCat("touch ", started, "; exec sleep 60"), [&] {
                return fs::exists(started) &&
                       fs::is_empty(root_ + "/scratch/jobs");
              }).ok());
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
  EXPECT_TRUE(jobs_.completed().empty());
}

TEST_F(WorkerLoopTest, EndsAtOnceWhenStoppedInAJob) {
  jobs_.Add(MakeLease(1));
  const std::string started = root_ + "/started";
  const absl::Time start = absl::Now();
  ASSERT_TRUE(RunUntil(absl::StrCat("touch ", started, "; exec sleep 60"), [&] {
                return fs::exists(started);
              }).ok());
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
  EXPECT_TRUE(fs::is_empty(root_ + "/scratch/jobs"));
}

TEST_F(WorkerLoopTest, IsTheSameInstanceAfterARestart) {
  for (size_t round : {1u, 2u}) {
    ASSERT_TRUE(
        RunUntil("", [&] { return jobs_.instances().size() >= round; }).ok());
  }
  EXPECT_EQ(jobs_.instances()[0], jobs_.instances()[1]);
}

TEST_F(WorkerLoopTest, OneWorkerAScratchDirectory) {
  std::unique_ptr<HubChannel> hub = server_.Connect();
  auto first = WorkerLoop::Create(
      *hub, {.scratch = root_ + "/scratch", .device_class = "test"});
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = WorkerLoop::Create(
      *hub, {.scratch = root_ + "/scratch", .device_class = "test"});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace cairn
