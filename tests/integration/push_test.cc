// Pushes against services that keep what they are given.

#include "client/push.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "absl/strings/str_cat.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "cairn/v1/hub.grpc.pb.h"
#include "cairn/v1/release.grpc.pb.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_util.h"
#include "core/release/release_digest.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/safetensors.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/checkpoint_delta.h"
#include "core/update/coded_update_writer.h"
#include "core/update/manifest.h"
#include "core/update/position_mask.h"
#include "core/update/update.h"
#include "tests/integration/local_server.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kWidth = 64;

class FakeHub : public v1::HubService::Service {
 public:
  grpc::Status GetHub(grpc::ServerContext*, const v1::GetHubRequest*,
                      v1::Hub* hub) override {
    hub->set_hub_id("hub-1");
    return grpc::Status::OK;
  }
};

class FakeReleases : public v1::ReleaseService::Service {
 public:
  v1::Release release;

  grpc::Status GetRelease(grpc::ServerContext*,
                          const v1::GetReleaseRequest* request,
                          v1::Release* out) override {
    if (request->name() != "models/m/releases/latest" &&
        request->name() != release.name()) {
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such release");
    }
    *out = release;
    return grpc::Status::OK;
  }
  grpc::Status MatchRelease(grpc::ServerContext*,
                            const v1::MatchReleaseRequest* request,
                            v1::Release* out) override {
    if (request->digest() != release.digest()) {
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such digest");
    }
    *out = release;
    return grpc::Status::OK;
  }
};

// Serves the release's files and its tensor manifest.
class FakeDownloads : public v1::DownloadService::Service {
 public:
  std::map<std::string, std::string> files;
  std::string tensor_manifest;
  int64_t sent = 0;

  grpc::Status Read(grpc::ServerContext*, const v1::ReadRequest* request,
                    grpc::ServerWriter<v1::ReadResponse>* writer) override {
    const std::string& content = request->has_release_tensor()
                                     ? tensor_manifest
                                     : files[request->release_file().path()];
    v1::ReadResponse response;
    response.set_offset(request->offset());
    response.set_chunk(content.substr(static_cast<size_t>(request->offset()),
                                      static_cast<size_t>(request->limit())));
    response.set_crc32c(Crc32c(response.chunk()));
    response.set_size_bytes(static_cast<int64_t>(content.size()));
    writer->Write(response);
    if (!request->has_release_tensor()) {
      sent += static_cast<int64_t>(response.chunk().size());
    }
    return grpc::Status::OK;
  }
};

// Knows nothing before, takes small blobs and asks for none twice.
class FakeUploads : public v1::UploadService::Service {
 public:
  std::map<std::string, std::string> blobs;
  int64_t taken = 0;

  grpc::Status FindMissing(grpc::ServerContext*,
                           const v1::FindMissingRequest* request,
                           v1::FindMissingResponse* response) override {
    for (const std::string& sha256 : request->sha256()) {
      if (!blobs.contains(sha256)) response->add_missing(sha256);
    }
    return grpc::Status::OK;
  }
  grpc::Status BatchUpload(grpc::ServerContext*,
                           const v1::BatchUploadRequest* request,
                           v1::BatchUploadResponse*) override {
    for (const auto& item : request->items()) {
      blobs[item.sha256()] = item.data();
      taken += static_cast<int64_t>(item.data().size());
    }
    return grpc::Status::OK;
  }
};

// Keeps the last request; fails the first `failures` as a lost reply does.
class FakeContributions : public v1::ContributionService::Service {
 public:
  v1::CreateContributionRequest request;
  std::vector<std::string> request_ids;
  int failures = 0;

  grpc::Status CreateContribution(grpc::ServerContext*,
                                  const v1::CreateContributionRequest* r,
                                  v1::Contribution* out) override {
    request = *r;
    request_ids.push_back(r->request_id());
    if (failures-- > 0) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "reply lost");
    }
    out->set_name("models/m/contributions/c1");
    return grpc::Status::OK;
  }
};

void WriteCheckpoint(const std::string& directory,
                     const std::vector<float>& weights) {
  ASSERT_TRUE(MakeDirectory(directory).ok());
  auto writer = SafetensorsWriter::Create(
      directory + "/model.safetensors",
      {{.name = "norm.weight", .dtype = DType::kF32, .shape = {4}},
       {.name = "proj.weight",
        .dtype = DType::kF32,
        .shape = {kWidth, kWidth}}},
      {{"format", "pt"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  const std::vector<float> ones(4, 1.0F);
  auto put = [&](const char* name, const std::vector<float>& values) {
    return (*writer)->Write(name, 0,
                            {reinterpret_cast<const char*>(values.data()),
                             values.size() * sizeof(float)});
  };
  ASSERT_TRUE(put("norm.weight", ones).ok());
  ASSERT_TRUE(put("proj.weight", weights).ok());
  ASSERT_TRUE((std::move(**writer).Finish()).ok());
  ASSERT_TRUE(WriteFile(directory + "/config.json", "{}").ok());
}

class PushTest : public ::testing::Test {
 protected:
  PushTest()
      : server_({&hub_service_, &releases_, &downloads_, &uploads_,
                 &contributions_}),
        hub_(server_.Connect()),
        weights_(kWidth * kWidth, 0.5F) {
    char name[] = "/tmp/cairn-push-test-XXXXXX";
    scratch_ = mkdtemp(name);
    home_ = std::make_unique<Home>(scratch_ + "/home");
    voice_.note = [](const std::string&) {};
    voice_.warn = [this](const std::string& text) {
      warnings_.push_back(text);
    };
    voice_.meter = [](const std::string& label, int64_t total) {
      return std::make_unique<ProgressMeter>(ProgressStyle::kNone, label,
                                             total);
    };
    base_ = scratch_ + "/base";
    WriteCheckpoint(base_, weights_);
    Publish();
  }
  ~PushTest() override { fs::remove_all(scratch_); }

  // Makes the base the model's only release.
  void Publish() {
    auto checkpoint = Checkpoint::OpenDirectory(base_);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto tensors = MakeTensorManifest(*checkpoint);
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    downloads_.tensor_manifest = SerializeTensorManifest(*tensors);
    v1::Release& release = releases_.release;
    release.set_name("models/m/releases/v1.0.0");
    release.set_version("v1.0.0");
    release.set_tensor_manifest_sha256(
        Digest::Of(downloads_.tensor_manifest).hex());
    for (const char* path : {"config.json", "model.safetensors"}) {
      auto bytes = ReadFile(absl::StrCat(base_, "/", path));
      ASSERT_TRUE(bytes.ok());
      v1::File& file = *release.add_files();
      file.set_path(path);
      file.set_size_bytes(static_cast<int64_t>(bytes->size()));
      file.set_sha256(Digest::Of(*bytes).hex());
      downloads_.files[path] = *std::move(bytes);
    }
    release.set_digest(ReleaseDigest(*tensors, release.files()));
  }

  // A fine-tuned checkpoint with three changed weights.
  std::string Tuned() {
    std::vector<float> tuned = weights_;
    for (size_t at : {5u, 700u, 4000u}) tuned[at] += 0.25F;
    WriteCheckpoint(scratch_ + "/tuned", tuned);
    return scratch_ + "/tuned";
  }

  absl::StatusOr<v1::Contribution> Run(PushOptions options) {
    options.model = "models/m";
    return Push(*hub_, *home_, options, voice_);
  }

  v1::ContributionManifest Sent() {
    v1::ContributionManifest manifest;
    EXPECT_TRUE(manifest.ParseFromString(contributions_.request.manifest()));
    return manifest;
  }

  FakeHub hub_service_;
  FakeReleases releases_;
  FakeDownloads downloads_;
  FakeUploads uploads_;
  FakeContributions contributions_;
  testing::LocalServer server_;
  std::unique_ptr<HubChannel> hub_;
  std::vector<float> weights_;
  std::string scratch_;
  std::string base_;
  std::unique_ptr<Home> home_;
  PushVoice voice_;
  std::vector<std::string> warnings_;
};

PushOptions At(const std::string& path) {
  PushOptions options;
  options.path = path;
  options.license = "MIT";
  return options;
}

TEST_F(PushTest, ACheckpointTravelsAsWhatChangedInIt) {
  auto pushed = Run(At(Tuned()));
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  v1::ContributionManifest manifest = Sent();
  EXPECT_EQ(manifest.encoding(), v1::Encoding::SPARSE);
  EXPECT_EQ(manifest.base_digest(), releases_.release.digest());
  ASSERT_EQ(manifest.files_size(), 1);
  EXPECT_LT(manifest.files(0).size_bytes(), 1000);
  EXPECT_TRUE(uploads_.blobs.contains(manifest.files(0).sha256()));
  EXPECT_TRUE(fs::is_empty(home_->path() + "/tmp")) << "leaves no scratch";
}

TEST_F(PushTest, TheUpdateGivesTheCheckpointBack) {
  const std::string tuned = Tuned();
  ASSERT_TRUE(Run(At(tuned)).ok());
  FileMap files;
  files[kUpdateFile] =
      MakeMemorySource(uploads_.blobs[Sent().files(0).sha256()]);
  auto update = OpenUpdate(files);
  ASSERT_TRUE(update.ok()) << update.status();
  auto base = Checkpoint::OpenDirectory(base_);
  ASSERT_TRUE(MakeDirectory(scratch_ + "/expanded").ok());
  ASSERT_TRUE(ExpandUpdate(*base, **update, scratch_ + "/expanded").ok());
  EXPECT_EQ(*ReadFile(scratch_ + "/expanded/model.safetensors"),
            *ReadFile(tuned + "/model.safetensors"));
}

// One mask of every other weight, and an update of those by `change` beside it.
void WriteMaskedUpdate(const std::string& directory,
                       const std::string& base_digest, float change) {
  ASSERT_TRUE(MakeDirectory(directory).ok());
  const TensorSpec proj{
      .name = "proj.weight", .dtype = DType::kF32, .shape = {kWidth, kWidth}};
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < kWidth * kWidth; i += 1 + i % 3) {
    positions.push_back(i);
  }
  const std::string path = absl::StrCat(directory, "/", kMaskFile);
  auto mask = PositionMaskWriter::Create(path);
  ASSERT_TRUE(mask.ok()) << mask.status();
  ASSERT_TRUE((*mask)->BeginTensor(proj).ok());
  ASSERT_TRUE((*mask)->Add(positions).ok());
  ASSERT_TRUE(std::move(**mask).Finish().ok());
  auto writer = CodedUpdateWriter::Create(
      absl::StrCat(directory, "/", kUpdateFile), base_digest, kCodedFormats[0],
      "sha256:" + Digest::Of(*ReadFile(path)).hex());
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->BeginTensor(proj).ok());
  const auto count = static_cast<int64_t>(positions.size());
  ASSERT_TRUE((*writer)
                  ->BeginMasked(count, {.form = ValueForm::kInt8, .group = 256})
                  .ok());
  ASSERT_TRUE(
      (*writer)->AddValues(std::vector<float>(positions.size(), change)).ok());
  ASSERT_TRUE(std::move(**writer).Finish().ok());
}

TEST_F(PushTest, AMaskTravelsOnce) {
  const std::string& base = releases_.release.digest();
  WriteMaskedUpdate(scratch_ + "/first", base, 0.25F);
  WriteMaskedUpdate(scratch_ + "/second", base, -0.5F);
  ASSERT_TRUE(Run(At(scratch_ + "/first")).ok());
  const int64_t first = uploads_.taken;
  const v1::ContributionManifest before = Sent();
  ASSERT_TRUE(Run(At(scratch_ + "/second")).ok());
  const v1::ContributionManifest after = Sent();
  // Both list it, so that the hub keeps it for both.
  ASSERT_EQ(after.files_size(), 2);
  EXPECT_EQ(after.files(0).path(), kMaskFile);
  EXPECT_EQ(after.files(0).sha256(), before.files(0).sha256());
  EXPECT_EQ(after.encoding(), v1::Encoding::SPARSE);
  EXPECT_EQ(first, before.files(0).size_bytes() + before.files(1).size_bytes());
  EXPECT_EQ(uploads_.taken - first, after.files(1).size_bytes());
  FileMap files;
  for (const v1::File& file : after.files()) {
    files[file.path()] = MakeMemorySource(uploads_.blobs[file.sha256()]);
  }
  auto update = OpenUpdate(files);
  ASSERT_TRUE(update.ok()) << update.status();
  auto change = (*update)->OpenChange("proj.weight");
  ASSERT_TRUE(change.ok());
  std::vector<float> tau(3);
  ASSERT_TRUE((*change)->Read(0, absl::MakeSpan(tau)).ok());
  EXPECT_THAT(tau, ElementsAre(-0.5F, -0.5F, 0.0F));
}

TEST_F(PushTest, UnchangedTensorsAreNotFetched) {
  std::vector<float> tuned = weights_;
  WriteCheckpoint(scratch_ + "/same", tuned);
  auto pushed = Run(At(scratch_ + "/same"));
  EXPECT_TRUE(absl::IsFailedPrecondition(pushed.status())) << pushed.status();
  EXPECT_LT(downloads_.sent, 1000) << "headers only";
}

TEST_F(PushTest, AGuessedBaseIsSaidAndRecorded) {
  ASSERT_TRUE(Run(At(Tuned())).ok());
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_THAT(warnings_[0], HasSubstr("v1.0.0"));
  EXPECT_TRUE(Sent().base_inferred());
}

TEST_F(PushTest, TheBaseIsFoundByTheTrainersDirectory) {
  const std::string tuned = Tuned();
  ASSERT_TRUE(WriteFile(tuned + "/config.json",
                        absl::StrCat("{\"_name_or_path\": \"", base_, "\"}"))
                  .ok());
  ASSERT_TRUE(Run(At(tuned)).ok());
  EXPECT_THAT(warnings_, IsEmpty());
  EXPECT_FALSE(Sent().base_inferred());
  EXPECT_EQ(downloads_.sent, 0) << "the base lies here";
}

TEST_F(PushTest, ANamedBaseMustExist) {
  PushOptions options = At(Tuned());
  options.base = "v9.9.9";
  EXPECT_TRUE(absl::IsNotFound(Run(options).status()));
  options.base = "v1.0.0";
  EXPECT_TRUE(Run(options).ok());
  EXPECT_FALSE(Sent().base_inferred());
}

TEST_F(PushTest, AnUpdateOfAnotherBaseIsRefusedBeforeItTravels) {
  weights_.assign(weights_.size(), 0.75F);
  WriteCheckpoint(scratch_ + "/other", weights_);
  auto base = Checkpoint::OpenDirectory(scratch_ + "/other");
  auto tuned = Checkpoint::OpenDirectory(Tuned());
  ASSERT_TRUE(MakeDirectory(scratch_ + "/update").ok());
  CheckpointDeltaOptions options;
  options.base_digest = Digest::Of("other").prefixed();
  ASSERT_TRUE(WriteCheckpointDelta(
                  *base, *tuned,
                  absl::StrCat(scratch_, "/update/", kUpdateFile), options)
                  .ok());
  auto pushed = Run(At(scratch_ + "/update"));
  EXPECT_TRUE(absl::IsFailedPrecondition(pushed.status()));
  EXPECT_EQ(GetReason(pushed.status())->code, "BASE_DIGEST_MISMATCH");
  EXPECT_TRUE(uploads_.blobs.empty());
}

TEST_F(PushTest, ManifestsAreSignedByTheHomesKey) {
  ASSERT_TRUE(home_->Prepare().ok());
  auto key = home_->ReadOrMakeKey();
  PushOptions options = At(Tuned());
  options.claims = {"models/m/suites/prose", "c"};
  options.title = "better prose";
  ASSERT_TRUE(Run(options).ok());
  v1::ContributionManifest manifest = Sent();
  EXPECT_EQ(manifest.author_key(), key->public_hex());
  EXPECT_EQ(manifest.hub_id(), "hub-1");
  EXPECT_THAT(manifest.claims(), ElementsAre("prose", "c"));
  EXPECT_TRUE(VerifyManifest(manifest, contributions_.request.manifest(),
                             contributions_.request.signature())
                  .ok());
}

TEST_F(PushTest, WithoutAKeyTheHubAttests) {
  ASSERT_TRUE(Run(At(Tuned())).ok());
  EXPECT_EQ(contributions_.request.signature(), "");
  EXPECT_TRUE(ParseManifest(contributions_.request.manifest()).ok());
}

TEST_F(PushTest, ALostReplyIsAskedForUnderTheSameId) {
  contributions_.failures = 2;
  ASSERT_TRUE(Run(At(Tuned())).ok());
  ASSERT_EQ(contributions_.request_ids.size(), 3u);
  EXPECT_EQ(contributions_.request_ids[0], contributions_.request_ids[2]);
  EXPECT_NE(contributions_.request_ids[0], "");
}

}  // namespace
}  // namespace cairn
