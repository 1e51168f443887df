#include "server/release/local_exchange.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/testing/temporary_directory.h"
#include "core/release/file_policy.h"
#include "gmock/gmock.h"
#include "server/release/file_export.h"
#include "server/release/release_fixture.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LocalExchangeTest : public testing::ReleaseFixture {
 protected:
  LocalExchangeTest() {
    fs::create_directories(root_ + "/in");
    Write("model.safetensors", absl::StrJoin(SmallCheckpoint(1), ""));
    Write("config.json", R"({"architectures": ["LlamaForCausalLM"]})");
    Write("README.md", "# small\n");
  }
  void Write(const std::string& name, const std::string& bytes) {
    std::ofstream(root_ + "/in/" + name, std::ios::binary) << bytes;
  }
  absl::StatusOr<v1::ImportModelResponse> Import(
      const std::string& directory, const std::string& id = "tiny") {
    v1::ImportModelRequest request;
    request.mutable_model()->set_model_id(id);
    request.mutable_model()->set_license("Apache-2.0");
    request.set_directory(directory);
    return exchange_->Import(chief_, request);
  }
  absl::StatusOr<v1::ExportReleaseResponse> Export(
      const std::string& directory) {
    v1::ExportReleaseRequest request;
    request.set_release("models/tiny/releases/v1.0.0");
    request.set_directory(directory);
    return exchange_->Export(chief_, request);
  }

  const testing::TemporaryDirectory scratch_;
  const std::string root_ = scratch_.path();
  ModelCatalog models_{store_, blobs_, signer_};
  std::unique_ptr<LocalExchange> exchange_ =
      std::make_unique<LocalExchange>(store_, blobs_, models_, root_);
};

TEST_F(LocalExchangeTest, ImportMakesTheModelThatAnUploadMakes) {
  Write("weights.bin", "pickled");
  auto imported = Import(root_ + "/in");
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_THAT(imported->left_out(), ElementsAre("weights.bin"));
  auto uploaded = models_.Create(chief_, SmallModel("other"));
  ASSERT_TRUE(uploaded.ok()) << uploaded.status();
  auto mine = MustGet<store::v1::ReleaseRecord>(imported->model().head());
  auto theirs = MustGet<store::v1::ReleaseRecord>(uploaded->head());
  EXPECT_EQ(mine.release().digest(), theirs.release().digest());
  ASSERT_EQ(mine.files_size(), theirs.files_size());
  for (int i = 0; i < mine.files_size(); ++i) {
    if (mine.files(i).path() == kReleaseDocumentFile) continue;
    EXPECT_EQ(mine.files(i).SerializeAsString(),
              theirs.files(i).SerializeAsString());
    EXPECT_EQ(mine.release().files(i).SerializeAsString(),
              theirs.release().files(i).SerializeAsString());
  }
}

TEST_F(LocalExchangeTest, ExportWritesWhatWasImported) {
  ASSERT_TRUE(Import(root_ + "/in").ok());
  auto exported = Export(root_ + "/out");
  ASSERT_TRUE(exported.ok()) << exported.status();
  EXPECT_EQ(exported->files(), 4);
  for (const char* name : {"model.safetensors", "config.json", "README.md"}) {
    EXPECT_EQ(*ReadFile(root_ + "/out/" + name),
              *ReadFile(root_ + "/in/" + name));
  }
  EXPECT_TRUE(fs::exists(root_ + "/out/" + kReleaseDocumentFile));
  EXPECT_TRUE(absl::IsAlreadyExists(Export(root_ + "/out").status()));
  fs::create_directories(root_ + "/empty");
  EXPECT_TRUE(Export(root_ + "/empty").ok());
}

TEST_F(LocalExchangeTest, ReachesNothingOutsideItsRoot) {
  const std::string outside = root_ + "-outside";
  fs::create_directories(outside);
  fs::copy(root_ + "/in", outside, fs::copy_options::recursive);
  fs::create_directory_symlink(outside, root_ + "/link");
  fs::create_directories(root_ + "/files");
  for (const auto& entry : fs::directory_iterator(outside)) {
    fs::create_symlink(entry.path(),
                       root_ + "/files/" + entry.path().filename().string());
  }
  for (const std::string& directory :
       {outside, root_ + "/link", root_ + "/in/../../etc", std::string("/"),
        root_ + "/files"}) {
    EXPECT_TRUE(absl::IsPermissionDenied(Import(directory).status()))
        << directory << Import(directory).status();
  }
  ASSERT_TRUE(Import(root_ + "/in").ok());
  EXPECT_TRUE(absl::IsPermissionDenied(Export(outside + "/x").status()));
  EXPECT_TRUE(absl::IsPermissionDenied(Export(root_ + "/link/x").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Import("in").status()));
  EXPECT_TRUE(absl::IsNotFound(Import(root_ + "/absent", "b").status()));
  fs::remove_all(outside);
}

TEST_F(LocalExchangeTest, WithoutARootNothingIsOpen) {
  exchange_ = std::make_unique<LocalExchange>(store_, blobs_, models_, "");
  absl::Status refused = Import(root_ + "/in").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("storage.exchange"));
}

TEST_F(LocalExchangeTest, OnlyThoseWhoManageModelsMay) {
  v1::ImportModelRequest request;
  request.mutable_model()->set_model_id("tiny");
  request.set_directory(root_ + "/in");
  EXPECT_TRUE(
      absl::IsPermissionDenied(exchange_->Import(reader_, request).status()));
  v1::ExportReleaseRequest out;
  out.set_release("models/tiny/releases/v1.0.0");
  out.set_directory(root_ + "/out");
  EXPECT_TRUE(
      absl::IsPermissionDenied(exchange_->Export(reader_, out).status()));
}

TEST_F(LocalExchangeTest, BrokenCheckpointIsRefusedAndLeavesNoModel) {
  Write("model.safetensors", absl::StrJoin(SmallCheckpoint(1), "") + "x");
  absl::Status refused = Import(root_ + "/in").status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("model.safetensors"));
  EXPECT_EQ(models_.List(chief_, {})->items_size(), 0);
}

TEST_F(LocalExchangeTest, LostBlobFailsTheExportAndLeavesNothing) {
  ASSERT_TRUE(Import(root_ + "/in").ok());
  ASSERT_TRUE(blobs_.Remove(Digest::Of("# small\n")).ok());
  EXPECT_TRUE(absl::IsDataLoss(Export(root_ + "/out").status()));
  for (const auto& entry : fs::directory_iterator(root_)) {
    EXPECT_EQ(entry.path().filename(), "in");
  }
}

TEST_F(LocalExchangeTest, ExportedBytesAreComparedWithTheirDigest) {
  std::string bytes;
  for (int i = 0; bytes.size() < 9'500'000; ++i) absl::StrAppend(&bytes, i);
  auto source = MakeMemorySource(bytes);
  for (const int threads : {1, 2, 5}) {
    const std::string path = absl::StrCat(root_, "/good", threads);
    EXPECT_TRUE(
        ExportFile(*source, Digest::Of(bytes).hex(), path, threads).ok());
    EXPECT_EQ(*ReadFile(path), bytes);
  }
  EXPECT_TRUE(absl::IsDataLoss(
      ExportFile(*source, Digest::Of("x").hex(), root_ + "/bad", 2)));
  EXPECT_TRUE(ExportFile(*MakeMemorySource(""), Digest::Of("").hex(),
                         root_ + "/none", 2)
                  .ok());
}

// Reads well up to a place.
class DamagedSource : public ByteSource {
 public:
  int64_t size() const override { return 20 << 20; }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    if (offset > 7 << 20) return absl::DataLossError("blob x is damaged");
    std::fill(out.begin(), out.end(), 'w');
    return absl::OkStatus();
  }
};

TEST_F(LocalExchangeTest, DamageEndsAnExportWhateverItsThreads) {
  for (const int threads : {1, 2, 5}) {
    absl::Status damaged =
        ExportFile(DamagedSource(), Digest::Of("").hex(),
                   absl::StrCat(root_, "/damaged", threads), threads);
    EXPECT_TRUE(absl::IsDataLoss(damaged)) << damaged;
    EXPECT_THAT(std::string(damaged.message()), HasSubstr("blob x"));
  }
}

}  // namespace
}  // namespace cairn
