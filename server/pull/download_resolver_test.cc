#include "server/pull/download_resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cairn/store/v1/records.pb.h"
#include "core/base/digest.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr char kModel[] = "models/m";
constexpr char kRelease[] = "models/m/releases/v1.0.0";
constexpr char kContribution[] = "models/m/contributions/c1";

Caller MakeCaller(const std::string& name, v1::User::Role role) {
  Caller caller;
  caller.user = "users/" + name;
  caller.role = role;
  return caller;
}

class DownloadResolverTest : public ::testing::Test {
 protected:
  DownloadResolverTest() {
    store::v1::ModelRecord model;
    model.mutable_model()->set_name(kModel);
    Put(model);
    PutRelease();
    PutContribution();
  }

  template <typename Record>
  void Put(Record& record) {
    absl::Status status = store_.Transact(
        [&](HubTransaction& transaction) { return transaction.Put(record); });
    ASSERT_TRUE(status.ok()) << status;
  }
  std::string PutBlob(const std::string& bytes) {
    return blobs_.Put(bytes)->hex();
  }

  void PutRelease() {
    store::v1::ReleaseRecord record;
    auto& release = *record.mutable_release();
    release.set_name(kRelease);
    auto* file = release.add_files();
    file->set_path("model.safetensors");
    file->set_size_bytes(16);
    file->set_sha256(Digest::Of("header..tensor-a").hex());
    auto* stored = record.add_files();
    stored->set_path("model.safetensors");
    for (const char* bytes : {"header..", "tensor-a"}) {
      auto* segment = stored->add_segments();
      segment->set_sha256(PutBlob(bytes));
      segment->set_size_bytes(8);
    }
    v1::TensorManifest manifest;
    auto* tensor = manifest.add_tensors();
    tensor->set_name("a");
    tensor->set_sha256(Digest::Of("tensor-a").hex());
    tensor->set_size_bytes(8);
    release.set_tensor_manifest_sha256(PutBlob(manifest.SerializeAsString()));
    Put(record);
  }

  void PutContribution() {
    contribution_.set_model(kModel);
    auto& contribution = *contribution_.mutable_contribution();
    contribution.set_name(kContribution);
    contribution.set_author("users/alice");
    contribution.set_state(v1::Contribution::RECEIVED);
    auto* file = contribution.add_files();
    file->set_path("adapter_config.json");
    file->set_size_bytes(2);
    file->set_sha256(PutBlob("{}"));
    Put(contribution_);
  }

  static v1::ReadRequest FileOfRelease(const std::string& release,
                                       const std::string& path) {
    v1::ReadRequest request;
    request.mutable_release_file()->set_release(release);
    request.mutable_release_file()->set_path(path);
    return request;
  }
  static v1::ReadRequest TensorOfRelease(const std::string& tensor) {
    v1::ReadRequest request;
    request.mutable_release_tensor()->set_release(kRelease);
    request.mutable_release_tensor()->set_tensor(tensor);
    return request;
  }
  static v1::ReadRequest FileOfContribution() {
    v1::ReadRequest request;
    request.mutable_contribution_file()->set_contribution(kContribution);
    request.mutable_contribution_file()->set_path("adapter_config.json");
    return request;
  }

  absl::StatusOr<std::string> Read(const Caller& caller,
                                   const v1::ReadRequest& request) {
    auto download = resolver_.Resolve(caller, request);
    if (!download.ok()) return download.status();
    auto bytes = ReadAll(*download->source, 1 << 20);
    if (bytes.ok()) {
      EXPECT_EQ(download->sha256, Digest::Of(*bytes).hex());
    }
    return bytes;
  }

  FakeClock clock_;
  MemoryMetadataStore records_;
  HubStore store_{records_, clock_};
  MemoryBlobStore blobs_;
  store::v1::ContributionRecord contribution_;
  std::string leased_;
  DownloadResolver resolver_{
      store_, blobs_, [this](const Caller&, const v1::LeasedBlob& blob) {
        if (blob.sha256() == leased_) return absl::OkStatus();
        return absl::PermissionDeniedError("the lease does not name it");
      }};
  const Caller reader_ = MakeCaller("r", v1::User::READER);
  const Caller worker_ = MakeCaller("w", v1::User::WORKER);
  const Caller stranger_;
};

TEST_F(DownloadResolverTest, ReleaseFileIsAssembledFromItsBlobs) {
  EXPECT_EQ(*Read(reader_, FileOfRelease(kRelease, "model.safetensors")),
            "header..tensor-a");
  EXPECT_TRUE(Read(worker_, FileOfRelease(kRelease, "model.safetensors")).ok());
}

TEST_F(DownloadResolverTest, PermissionIsCheckedBeforeExistence) {
  for (const char* release :
       {kRelease, "models/m/releases/v9.0.0", "models/other/releases/v1.0.0"}) {
    EXPECT_TRUE(absl::IsUnauthenticated(
        Read(stranger_, FileOfRelease(release, "x")).status()))
        << release;
  }
  EXPECT_TRUE(absl::IsNotFound(
      Read(reader_, FileOfRelease("models/m/releases/v9.0.0", "x")).status()));
  absl::Status no_file = Read(reader_, FileOfRelease(kRelease, "x")).status();
  EXPECT_TRUE(absl::IsNotFound(no_file));
  EXPECT_THAT(std::string(no_file.message()), HasSubstr("\"x\""));
}

TEST_F(DownloadResolverTest, AnybodyReadsPublicModels) {
  store::v1::ModelRecord model;
  model.mutable_model()->set_name(kModel);
  model.mutable_model()->mutable_policy()->set_public_(true);
  Put(model);
  EXPECT_TRUE(
      Read(stranger_, FileOfRelease(kRelease, "model.safetensors")).ok());
  EXPECT_TRUE(Read(stranger_, TensorOfRelease("a")).ok());
  EXPECT_TRUE(
      absl::IsUnauthenticated(Read(stranger_, FileOfContribution()).status()));
}

TEST_F(DownloadResolverTest, TensorsAndTheirManifestAreReadByName) {
  EXPECT_EQ(*Read(reader_, TensorOfRelease("a")), "tensor-a");
  auto manifest = Read(reader_, TensorOfRelease(""));
  ASSERT_TRUE(manifest.ok());
  v1::TensorManifest parsed;
  ASSERT_TRUE(parsed.ParseFromString(*manifest));
  EXPECT_EQ(parsed.tensors_size(), 1);
  EXPECT_TRUE(absl::IsNotFound(Read(reader_, TensorOfRelease("b")).status()));
}

TEST_F(DownloadResolverTest, DeltasAreReadOnceTheyAreReady) {
  store::v1::DeltaRecord record;
  record.mutable_delta()->set_name("models/m/releases/v1.0.0/deltas/v0.9.0");
  record.mutable_delta()->set_state(v1::Delta::PENDING);
  Put(record);
  v1::ReadRequest request;
  request.mutable_release_delta()->set_release(kRelease);
  request.mutable_release_delta()->set_from("models/m/releases/v0.9.0");
  EXPECT_TRUE(absl::IsFailedPrecondition(Read(reader_, request).status()));
  record.mutable_delta()->set_state(v1::Delta::READY);
  record.mutable_delta()->set_sha256(PutBlob("delta"));
  record.mutable_delta()->set_size_bytes(5);
  Put(record);
  EXPECT_EQ(*Read(reader_, request), "delta");
  EXPECT_TRUE(absl::IsUnauthenticated(Read(stranger_, request).status()));
  request.mutable_release_delta()->set_from("models/m/releases/v0.8.0");
  EXPECT_TRUE(absl::IsNotFound(Read(reader_, request).status()));
}

TEST_F(DownloadResolverTest, UpdatesAreForTheirAuthorAndReviewers) {
  EXPECT_EQ(
      *Read(MakeCaller("alice", v1::User::CONTRIBUTOR), FileOfContribution()),
      "{}");
  EXPECT_TRUE(
      Read(MakeCaller("eve", v1::User::REVIEWER), FileOfContribution()).ok());
  for (const Caller& caller :
       {MakeCaller("bob", v1::User::CONTRIBUTOR), reader_, worker_}) {
    EXPECT_TRUE(
        absl::IsPermissionDenied(Read(caller, FileOfContribution()).status()))
        << caller.user;
  }
}

TEST_F(DownloadResolverTest, DroppedUpdatesSaySo) {
  contribution_.set_bytes_dropped(true);
  Put(contribution_);
  absl::Status status =
      Read(MakeCaller("alice", v1::User::CONTRIBUTOR), FileOfContribution())
          .status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(DownloadResolverTest, LeasedBlobNeedsItsLease) {
  v1::ReadRequest request;
  request.mutable_leased_blob()->set_job("jobs/1");
  request.mutable_leased_blob()->set_sha256(PutBlob("suite"));
  EXPECT_TRUE(absl::IsPermissionDenied(Read(worker_, request).status()));
  leased_ = request.leased_blob().sha256();
  EXPECT_EQ(*Read(worker_, request), "suite");
  EXPECT_TRUE(absl::IsPermissionDenied(Read(reader_, request).status()));
  leased_ = "none";
  request.mutable_leased_blob()->set_sha256("none");
  EXPECT_TRUE(absl::IsInvalidArgument(Read(worker_, request).status()));
}

TEST_F(DownloadResolverTest, SuitesShowTheirPublicFilesOnly) {
  store::v1::SuiteRecord record;
  record.mutable_suite()->set_name("models/m/suites/s");
  record.mutable_suite()->set_version(1);
  record.mutable_suite()->set_state(v1::Suite::CHECKING);
  for (const std::string path : {"dev.jsonl", "gate.jsonl"}) {
    v1::File file;
    file.set_path(path);
    file.set_size_bytes(static_cast<int64_t>(path.size()));
    file.set_sha256(PutBlob(path));
    *record.add_files() = file;
    if (path == "dev.jsonl") *record.mutable_suite()->add_public_files() = file;
  }
  Put(record);
  v1::ReadRequest request;
  request.mutable_suite_file()->set_suite("models/m/suites/s");
  request.mutable_suite_file()->set_path("dev.jsonl");
  EXPECT_EQ(*Read(reader_, request), "dev.jsonl");
  EXPECT_EQ(Read(stranger_, request).status().code(),
            absl::StatusCode::kUnauthenticated);
  request.mutable_suite_file()->set_path("gate.jsonl");
  EXPECT_EQ(Read(reader_, request).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(DownloadResolverTest, RequestWithoutASourceIsRefused) {
  absl::Status status = Read(reader_, {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("release_file"));
}

TEST_F(DownloadResolverTest, MissingBlobOfAReleaseIsDataLoss) {
  ASSERT_TRUE(blobs_.Remove(Digest::Of("tensor-a")).ok());
  absl::Status status =
      Read(reader_, FileOfRelease(kRelease, "model.safetensors")).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
}

}  // namespace
}  // namespace cairn
