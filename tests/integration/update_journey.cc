#include "tests/integration/update_journey.h"

#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "cairn/v1/model.grpc.pb.h"
#include "client/model_files.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/rpc/blob_upload.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/tensor_manifest.h"
#include "merge/engine/model_identity.h"
#include "merge/tensor/compute.h"

namespace cairn::testing {

namespace fs = std::filesystem;

fs::path MergeGolden(const std::string& path) {
  return fs::path(std::getenv("CAIRN_SOURCE_DIR")) / "tests/testdata/merge" /
         path;
}

UpdateJourney::UpdateJourney() {
  InitCompute();
  scratch_ = fs::path(::testing::TempDir()) /
             absl::StrCat("cairn-update-journey-", ToHex(RandomBytes(8)));
  hub_.AddPerson("mia", v1::User::MAINTAINER);
  hub_.AddPerson("ada", v1::User::CONTRIBUTOR);
  home_ = std::make_unique<Home>(scratch_ / "home");
  EXPECT_TRUE(home_->Prepare().ok());
  EXPECT_TRUE(
      WriteFile(home_->path() + "/key", hub_.KeyOf("ada").seed_hex()).ok());
  ada_ = hub_.Connect("ada");
  voice_.note = [](const std::string&) {};
  voice_.warn = [](const std::string&) {};
  voice_.meter = [](const std::string& label, int64_t total) {
    return std::make_unique<ProgressMeter>(ProgressStyle::kNone, label, total);
  };
}

UpdateJourney::~UpdateJourney() { fs::remove_all(scratch_); }

void UpdateJourney::CreateModel(const std::string& base) {
  auto mia = hub_.Connect("mia");
  auto files = ReadModelFiles(MergeGolden("bases/" + base), nullptr);
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_TRUE(UploadBlobs(*mia, files->blobs).ok());
  v1::CreateModelRequest request;
  request.set_model_id(base);
  request.set_license("MIT");
  // Tiny random updates are large beside their tiny base.
  request.mutable_policy()->set_norm_ratio_max(1000);
  request.mutable_policy()->set_public_(true);
  request.mutable_files()->Add(files->files.begin(), files->files.end());
  auto created = mia->Call(&v1::ModelService::Stub::CreateModel, request);
  ASSERT_TRUE(created.ok()) << base << ": " << created.status();
}

absl::StatusOr<v1::Contribution> UpdateJourney::PushDirectory(
    const std::string& directory, const std::string& base) {
  PushOptions options;
  options.model = "models/" + base;
  options.path = directory;
  options.base = "v1.0.0";
  options.license = "MIT";
  return Push(*ada_, *home_, options, voice_);
}

v1::Contribution UpdateJourney::Screened(const std::string& contribution) {
  v1::GetContributionRequest request;
  request.set_name(contribution);
  const absl::Time end = absl::Now() + absl::Seconds(30);
  for (;;) {
    auto found =
        ada_->Call(&v1::ContributionService::Stub::GetContribution, request);
    EXPECT_TRUE(found.ok()) << found.status();
    if (!found.ok() || absl::Now() > end ||
        found->state() != v1::Contribution::RECEIVED) {
      return found.value_or(v1::Contribution());
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
}

JobContext UpdateJourney::Stage(const std::string& job, const std::string& base,
                                const std::string& directory,
                                v1::UpdateInput& update) {
  const JobContext context = StageRelease(job, base, update);
  fs::create_directories(fs::path(context.layout.Update(0)).parent_path());
  fs::copy(directory, context.layout.Update(0));
  return context;
}

JobContext UpdateJourney::StageRelease(const std::string& job,
                                       const std::string& base,
                                       v1::UpdateInput& update) {
  JobContext context = {
      .layout = JobLayout(scratch_ / ("job-" + job), scratch_ / "releases"),
      .threads = 2,
      .memory_bytes = 64 << 20,
      .device_class = "test",
      .progress = [](double, absl::string_view) {}};
  const Checkpoint checkpoint =
      Checkpoint::OpenDirectory(MergeGolden("bases/" + base)).value();
  const ModelIdentity identity = IdentifyModel(checkpoint, 1).value();
  const fs::path release = context.layout.Release(identity.digest);
  if (!fs::exists(release)) {
    fs::create_directories(release.parent_path());
    fs::copy(MergeGolden("bases/" + base), release);
  }
  update.set_contribution("models/m/contributions/c1");
  update.set_digest("sha256:d");
  update.mutable_base()->set_name("models/m/releases/v1.0.0");
  update.mutable_base()->set_digest(identity.digest);
  return context;
}

void UpdateJourney::ExpectTensors(const fs::path& file, const std::string& base,
                                  const JobContext& context,
                                  const v1::MergeResult& merge) {
  FileMap files;
  files["model.safetensors"] = OpenFileSource(file).value();
  const Checkpoint want = Checkpoint::Open(std::move(files)).value();
  const Checkpoint before =
      Checkpoint::OpenDirectory(MergeGolden("bases/" + base)).value();
  const std::string output = context.layout.output_directory() + "/";
  const v1::TensorManifest manifest =
      ParseTensorManifest(
          ReadFile(output + merge.tensor_manifest_sha256()).value())
          .value();
  for (const CheckpointTensor& tensor : want.tensors()) {
    const v1::Tensor* entry = FindTensor(manifest, tensor.name);
    ASSERT_NE(entry, nullptr) << tensor.name;
    std::vector<float> expected(
        static_cast<size_t>(before.Find(tensor.name)->elements()));
    ASSERT_TRUE(
        before.ReadFloats(tensor.name, 0, absl::MakeSpan(expected)).ok());
    // What a merge leaves as it is, is not among its output.
    std::vector<float> got = expected;
    if (fs::exists(output + entry->sha256())) {
      const std::string bytes = ReadFile(output + entry->sha256()).value();
      ASSERT_EQ(bytes.size(), got.size() * sizeof(float)) << tensor.name;
      ToFloats(DType::kF32, bytes, absl::MakeSpan(got));
    }
    const auto count = static_cast<size_t>(tensor.elements());
    ASSERT_LE(count, got.size());
    ASSERT_TRUE(want.ReadFloats(tensor.name, 0,
                                absl::MakeSpan(expected).subspan(0, count))
                    .ok());
    float largest = 0;
    for (float value : expected) largest = std::max(largest, fabsf(value));
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], expected[i], 2e-6f * largest)
          << tensor.name << " " << i;
    }
  }
}

}  // namespace cairn::testing
