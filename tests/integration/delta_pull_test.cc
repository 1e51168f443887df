// Releases pulled as their difference from others: a whole hub, a worker that
// makes deltas, and directories before and after.

#include "client/delta_pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cairn/v1/model.grpc.pb.h"
#include "cairn/v1/release.grpc.pb.h"
#include "cairn/v1/worker.grpc.pb.h"
#include "client/base_finder.h"
#include "client/model_files.h"
#include "client/pull.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/delta/delta_pack_writer.h"
#include "core/release/release_digest.h"
#include "core/release/release_verifier.h"
#include "core/rpc/blob_upload.h"
#include "core/tensor/tensor_manifest.h"
#include "server/flow/job_records.h"
#include "server/flow/schema.h"
#include "server/release/release_publisher.h"
#include "server/release/release_signer.h"
#include "server/setup/hub_keys.h"
#include "server/setup/hub_setup.h"
#include "server/testing/in_process_hub.h"
#include "storage/fs/fs_blob_store.h"
#include "storage/rocksdb/rocksdb_metadata_store.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr char kFile[] = "model.safetensors";

std::string Release(int minor) {
  return absl::StrCat("models/m/releases/v1.", minor, ".0");
}

// What a worker hands in for a delta that it wrote to a file.
enum class Delivery { kWhole, kDamaged };

class DeltaPullTest : public ::testing::Test {
 protected:
  DeltaPullTest() {
    scratch_ = fs::path(::testing::TempDir()) /
               absl::StrCat("cairn-delta-pull-", ToHex(RandomBytes(8)));
    WriteCheckpoints();
    hub_.AddPerson("mia", v1::User::MAINTAINER);
    hub_.AddPerson("w1", v1::User::WORKER);
    CreateModel();
    Publish(1);
    Publish(2);
    channel_ = hub_.Connect("mia");
    options_.meter = [](const std::string& label, int64_t total) {
      return std::make_unique<ProgressMeter>(ProgressStyle::kNone, label,
                                             total);
    };
  }
  ~DeltaPullTest() override { fs::remove_all(scratch_); }

  std::string Path(const std::string& name) const { return scratch_ / name; }

  // truth0, truth1 and truth2 are what is published: BF16 weights of which one
  // tensor changes a little from release to release and one does not.
  void WriteCheckpoints() {
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0, 0.02f);
    std::vector<float> moving(100'000), still(30'000);
    for (float& value : moving) value = normal(random);
    for (float& value : still) value = normal(random);
    for (int step = 0; step < 3; ++step) {
      const std::string directory = Path(absl::StrCat("truth", step));
      ASSERT_TRUE(MakeDirectory(directory).ok());
      ASSERT_TRUE(
          WriteFile(directory + "/config.json", R"({"model_type": "llama"})")
              .ok());
      auto writer =
          SafetensorsWriter::Create(absl::StrCat(directory, "/", kFile),
                                    {{"moving", DType::kBF16, {100, 1000}},
                                     {"still", DType::kBF16, {30'000}}},
                                    {{"format", "pt"}});
      ASSERT_TRUE(writer.ok()) << writer.status();
      WriteTensor(**writer, "moving", moving);
      WriteTensor(**writer, "still", still);
      ASSERT_TRUE((std::move(**writer)).Finish().ok());
      for (float& value : moving) value += 0.002f * normal(random);
    }
  }

  static void WriteTensor(SafetensorsWriter& writer, const std::string& name,
                          const std::vector<float>& values) {
    std::string bytes(2 * values.size(), '\0');
    FromFloats(DType::kBF16, values, absl::MakeSpan(bytes));
    ASSERT_TRUE(writer.Write(name, 0, bytes).ok());
  }

  void CreateModel() {
    auto mia = hub_.Connect("mia");
    auto files = ReadModelFiles(Path("truth0"), nullptr);
    ASSERT_TRUE(files.ok()) << files.status();
    ASSERT_TRUE(UploadBlobs(*mia, files->blobs).ok());
    v1::CreateModelRequest request;
    request.set_model_id("m");
    request.set_license("MIT");
    request.mutable_files()->Add(files->files.begin(), files->files.end());
    auto created = mia->Call(&v1::ModelService::Stub::CreateModel, request);
    ASSERT_TRUE(created.ok()) << created.status();
  }

  // Makes truthN a release, as a batch would, while the hub is down.
  void Publish(int minor) {
    hub_.Stop();
    {
      auto metadata = RocksMetadataStore::Open(
          MetadataDirectory(hub_.data_dir()), HubSchema());
      auto blobs = FsBlobStore::Open(BlobDirectory(hub_.data_dir()));
      auto keys = LoadHubKeys(hub_.data_dir());
      ASSERT_TRUE(metadata.ok() && blobs.ok() && keys.ok());
      HubStore store(**metadata, Clock::System());
      ReleaseSigner signer(keys->hub_id, keys->release_key, keys->delegation,
                           keys->delegation_end);
      PublishInto(store, **blobs, signer, minor);
    }
    hub_.Start();
  }

  void PublishInto(HubStore& store, BlobStore& blobs,
                   const ReleaseSigner& signer, int minor) {
    auto head = store.Read().Get<store::v1::ReleaseRecord>(Release(minor - 1));
    ASSERT_TRUE(head.ok()) << head.status();
    auto truth = Checkpoint::OpenDirectory(Path(absl::StrCat("truth", minor)));
    ASSERT_TRUE(truth.ok()) << truth.status();
    auto tensors = MakeTensorManifest(*truth);
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    auto moving = truth->OpenTensor("moving");
    ASSERT_TRUE(blobs.Put(*ReadAll(**moving, 1 << 20)).ok());
    Publication publication;
    publication.model = "models/m";
    publication.head = Release(minor - 1);
    publication.origin = store::v1::ReleaseRecord::MERGED;
    publication.candidate.set_release(publication.head);
    publication.candidate.set_tensor_manifest_sha256(
        blobs.Put(SerializeTensorManifest(*tensors))->hex());
    publication.candidate.set_digest(
        ReleaseDigest(*tensors, head->release().files()));
    ReleasePublisher publisher(store, blobs, signer);
    auto built = publisher.Build(publication);
    ASSERT_TRUE(built.ok()) << built.status();
    absl::Status committed = store.Transact([&](HubTransaction& txn) {
      return publisher.Commit(txn, publication, *built);
    });
    ASSERT_TRUE(committed.ok()) << committed;
  }

  // Does every job that waits; each is a delta. Returns how many.
  int Work(Delivery delivery = Delivery::kWhole) {
    auto worker = hub_.Connect("w1");
    v1::OpenSessionRequest open;
    open.set_instance_id("here");
    open.set_device_class("test");
    open.add_kinds("merge");
    auto session = worker->Call(&v1::WorkerService::Stub::OpenSession, open);
    EXPECT_TRUE(session.ok()) << session.status();
    for (int done = 0;; ++done) {
      v1::LeaseJobRequest request;
      request.set_session(session->name());
      auto leased = worker->Call(&v1::WorkerService::Stub::LeaseJob, request);
      EXPECT_TRUE(leased.ok()) << leased.status();
      if (!leased.ok() || !leased->has_lease()) return done;
      Complete(*worker, *session, leased->lease(), delivery);
    }
  }

  void Complete(HubChannel& worker, const v1::Session& session,
                const v1::Lease& lease, Delivery delivery) {
    ASSERT_TRUE(lease.spec().has_delta());
    const auto truth = [&](const v1::ReleaseInput& release) {
      return Checkpoint::OpenDirectory(Path(absl::StrCat(
          "truth", release.name().substr(release.name().find("v1.") + 3, 1))));
    };
    auto from = truth(lease.spec().delta().from());
    auto to = truth(lease.spec().delta().to());
    ASSERT_TRUE(from.ok() && to.ok());
    auto written =
        WriteDeltaPack(*from, *to, Path("worker-delta"),
                       {.from_digest = lease.spec().delta().from().digest(),
                        .to_digest = lease.spec().delta().to().digest(),
                        .threads = 2,
                        .progress = nullptr});
    ASSERT_TRUE(written.ok()) << written.status();
    std::string bytes = *ReadFile(Path("worker-delta"));
    // The first coded block, that of "moving", gets a method that is none.
    if (delivery == Delivery::kDamaged) bytes[12] = 9;
    v1::JobResult result;
    result.set_device_class("test");
    result.mutable_delta()->set_sha256(Digest::Of(bytes).hex());
    result.mutable_delta()->set_size_bytes(static_cast<int64_t>(bytes.size()));
    const std::string answer = result.SerializeAsString();
    std::vector<OutgoingBlob> blobs;
    for (const std::string& blob : {bytes, answer}) {
      blobs.push_back({.sha256 = Digest::Of(blob),
                       .size_bytes = static_cast<int64_t>(blob.size()),
                       .source = MakeMemorySource(blob)});
    }
    ASSERT_TRUE(UploadBlobs(worker, blobs).ok());
    v1::CompleteJobRequest complete;
    complete.set_session(session.name());
    complete.set_job(lease.job());
    complete.set_fencing_token(lease.fencing_token());
    complete.set_result_sha256(Digest::Of(answer).hex());
    auto completed =
        worker.Call(&v1::WorkerService::Stub::CompleteJob, complete);
    ASSERT_TRUE(completed.ok()) << completed.status();
  }

  // Waits until the hub has taken what the worker handed in.
  v1::Release Settled(int minor, int deltas) {
    while (true) {
      auto release = GetRelease(*channel_, Release(minor));
      EXPECT_TRUE(release.ok()) << release.status();
      if (!release.ok() || release->deltas_size() >= deltas) {
        return release.value_or(v1::Release());
      }
      EXPECT_TRUE(channel_->Sleep(absl::Milliseconds(20)).ok());
    }
  }

  PullSummary Pull(const v1::Release& release, const std::string& directory) {
    auto summary = PullRelease(*channel_, release, Path(directory), options_);
    EXPECT_TRUE(summary.ok()) << summary.status();
    return summary.value_or(PullSummary());
  }
  PullSummary Pull(int minor, const std::string& directory) {
    auto release = GetRelease(*channel_, Release(minor));
    EXPECT_TRUE(release.ok()) << release.status();
    return Pull(release.value_or(v1::Release()), directory);
  }

  void ExpectTruth(int minor, const std::string& directory) {
    const std::string truth = Path(absl::StrCat("truth", minor));
    EXPECT_EQ(*ReadFile(absl::StrCat(Path(directory), "/", kFile)),
              *ReadFile(absl::StrCat(truth, "/", kFile)));
    auto verified = VerifyDirectory(Path(directory), {});
    EXPECT_TRUE(verified.ok()) << verified.status();
    EXPECT_EQ(verified->name(), Release(minor));
    EXPECT_FALSE(fs::exists(Path(directory) + "/.cairn-partial"));
  }

  // Flips a bit of a tensor's bytes in a pulled file.
  void Damage(const std::string& directory, absl::string_view tensor) {
    auto checkpoint = Checkpoint::OpenDirectory(Path(directory));
    ASSERT_TRUE(checkpoint.ok());
    std::fstream file(absl::StrCat(Path(directory), "/", kFile),
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(checkpoint->Find(tensor)->begin + 1001);
    file.put('\x55');
  }

  testing::InProcessHub hub_;
  fs::path scratch_;
  std::unique_ptr<HubChannel> channel_;
  PullOptions options_;
};

TEST_F(DeltaPullTest, TheNextReleaseComesAsADifference) {
  // v1.0.0 and v1.1.0 to v1.2.0, and v1.0.0 to v1.1.0.
  EXPECT_EQ(Work(), 3);
  Settled(1, 1);
  const PullSummary whole = Pull(0, "model");
  EXPECT_EQ(whole.fetched_bytes, whole.total_bytes);
  EXPECT_EQ(whole.from, "");

  const PullSummary step = Pull(1, "model");
  EXPECT_EQ(step.from, Release(0));
  EXPECT_LT(step.fetched_bytes, step.total_bytes / 8);
  ExpectTruth(1, "model");
}

TEST_F(DeltaPullTest, SeveralStepsCostAboutOne) {
  Work();
  Settled(2, 2);
  options_.from = Path("older");
  Pull(0, "older");
  const PullSummary two = Pull(2, "newer");
  EXPECT_EQ(two.from, Release(0));
  EXPECT_LT(two.fetched_bytes, two.total_bytes / 6);
  ExpectTruth(2, "newer");
  ExpectTruth(0, "older");
}

TEST_F(DeltaPullTest, AnyOtherPairIsMadeWhenSomebodyAsks) {
  Work();
  Settled(2, 2);
  Pull(2, "model");
  v1::RequestDeltaRequest request;
  request.set_name(Release(0));
  request.set_from(Release(2));
  auto asked = channel_->Call(&v1::ReleaseService::Stub::RequestDelta, request);
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_EQ(asked->state(), v1::Delta::PENDING);
  EXPECT_EQ(Work(), 1);
  // The pull finds it pending or ready, and waits.
  EXPECT_EQ(Pull(0, "model").from, Release(2));
  ExpectTruth(0, "model");
}

TEST_F(DeltaPullTest, WithoutAWorkerItComesWhole) {
  Pull(0, "model");
  const PullSummary summary = Pull(1, "model");
  EXPECT_EQ(summary.from, "");
  ExpectTruth(1, "model");
}

TEST_F(DeltaPullTest, WholeFilesOnRequest) {
  Work();
  Settled(1, 1);
  Pull(0, "model");
  options_.use_deltas = false;
  EXPECT_EQ(Pull(1, "model").from, "");
  ExpectTruth(1, "model");
}

TEST_F(DeltaPullTest, ADamagedTensorOfTheOlderReleaseIsFetchedByItself) {
  Work();
  Settled(1, 1);
  Pull(0, "model");
  Damage("model", "still");
  const PullSummary summary = Pull(1, "model");
  EXPECT_EQ(summary.from, Release(0));
  EXPECT_GE(summary.fetched_bytes, 60'000);
  EXPECT_LT(summary.fetched_bytes, 60'000 + summary.total_bytes / 8);
  ExpectTruth(1, "model");
}

TEST_F(DeltaPullTest, ADamagedPieceOfADeltaCostsItsTensorAlone) {
  Work(Delivery::kDamaged);
  Settled(1, 1);
  Pull(0, "model");
  const PullSummary summary = Pull(1, "model");
  EXPECT_EQ(summary.from, Release(0));
  EXPECT_GE(summary.fetched_bytes, 200'000);
  EXPECT_LT(summary.fetched_bytes, 200'000 + summary.total_bytes / 8);
  ExpectTruth(1, "model");
}

TEST_F(DeltaPullTest, ADeltaOfOtherReleasesIsNotUsed) {
  Work();
  v1::Release release = Settled(1, 1);
  Pull(0, "model");
  // As a hub would that lists the wrong blob: its bytes are not what it says.
  release.mutable_deltas(0)->set_sha256(std::string(64, 'a'));
  EXPECT_EQ(Pull(release, "model").from, "");
  ExpectTruth(1, "model");
}

}  // namespace
}  // namespace cairn
