#include "server/release/model_catalog.h"

#include <functional>

#include "core/base/status_util.h"
#include "core/release/release_digest.h"
#include "core/release/release_document.h"
#include "core/tensor/safetensors.h"
#include "gmock/gmock.h"
#include "server/release/file_assembly.h"
#include "server/release/release_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

struct BadModel {
  std::string what;
  std::function<void(v1::CreateModelRequest&)> spoil;
  absl::StatusCode code;
  std::string reason;
  std::string message;
};

class ModelCatalogTest : public testing::ReleaseFixture {
 protected:
  // Each spoilt request is refused as it says and leaves nothing.
  void ExpectRefused(const std::vector<BadModel>& cases) {
    for (const BadModel& bad : cases) {
      auto request = SmallModel("tiny");
      bad.spoil(request);
      absl::Status status = models_.Create(chief_, request).status();
      EXPECT_EQ(status.code(), bad.code) << bad.what << ": " << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message))
          << bad.what;
      if (!bad.reason.empty()) {
        ASSERT_TRUE(GetReason(status).has_value())
            << bad.what << ": " << status;
        EXPECT_EQ(GetReason(status)->code, bad.reason) << bad.what;
      }
    }
    EXPECT_EQ(models_.List(chief_, {})->items_size(), 0)
        << "a refused checkpoint leaves nothing";
  }

  ModelCatalog models_{store_, blobs_, signer_};
};

TEST_F(ModelCatalogTest, CheckpointBecomesASignedFirstRelease) {
  auto request = SmallModel("tiny");
  auto model = models_.Create(chief_, request);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->head(), "models/tiny/releases/v1.0.0");
  ASSERT_EQ(model->tags_size(), 2);
  EXPECT_EQ(model->tags(0).name(), "models/tiny/tags/latest");
  EXPECT_EQ(model->tags(1).name(), "models/tiny/tags/stable");

  auto record = MustGet<store::v1::ReleaseRecord>(model->head());
  const v1::Release& release = record.release();
  EXPECT_EQ(release.parent(), "");
  EXPECT_EQ(release.commit().size(), 40u);
  EXPECT_EQ(record.tensor_bytes(), 28);
  ASSERT_EQ(release.files_size(), 4) << "three files and cairn-release.json";
  for (int i = 0; i < record.files_size(); ++i) {
    auto source = OpenAssembled(blobs_, record.files(i));
    ASSERT_TRUE(source.ok());
    auto described = DescribeFile(record.files(i).path(), **source);
    ASSERT_TRUE(described.ok());
    EXPECT_EQ(described->SerializeAsString(),
              release.files(i).SerializeAsString());
  }
  auto document = OpenAssembled(blobs_, record.files(3));
  ASSERT_TRUE(document.ok());
  auto verified = VerifyReleaseDocument(*ReadAll(**document, 1 << 20),
                                        RootFingerprint(root_.public_hex()));
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_EQ(verified->digest(), release.digest());
  EXPECT_EQ(verified->license(), "Apache-2.0");
}

TEST_F(ModelCatalogTest, SameCheckpointAgainIsSuccess) {
  auto request = SmallModel("tiny");
  request.set_request_id("r1");
  auto first = models_.Create(chief_, request);
  ASSERT_TRUE(first.ok());
  clock_.Advance(absl::Hours(1));
  auto replayed = models_.Create(chief_, request);
  ASSERT_TRUE(replayed.ok());
  EXPECT_EQ(replayed->SerializeAsString(), first->SerializeAsString());
  request.set_request_id("r2");
  auto repeated = models_.Create(chief_, request);
  ASSERT_TRUE(repeated.ok()) << repeated.status();
  EXPECT_EQ(repeated->head(), first->head());
}

TEST_F(ModelCatalogTest, NameThatIsTakenIsRefused) {
  ASSERT_TRUE(models_.Create(chief_, SmallModel("tiny")).ok());
  auto other = models_.Create(chief_, SmallModel("tiny", 2));
  EXPECT_EQ(other.status().code(), absl::StatusCode::kAlreadyExists);
  v1::CreateModelRequest reused = SmallModel("tiny");
  reused.set_request_id("r1");
  ASSERT_TRUE(models_.Create(chief_, reused).ok());
}

TEST_F(ModelCatalogTest, OnlyMaintainersCreateAndOnlyFromTheirOwnBytes) {
  EXPECT_EQ(models_.Create(reader_, SmallModel("tiny")).status().code(),
            absl::StatusCode::kPermissionDenied);
  Caller other{.user = "users/other", .role = v1::User::MAINTAINER};
  auto stolen = models_.Create(other, SmallModel("tiny"));
  EXPECT_EQ(stolen.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(models_.Get(chief_, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelCatalogTest, RefusesFilesThatDoNotBelongInARelease) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  auto add = [this](const std::string& path, const std::string& bytes) {
    return [this, path, bytes](v1::CreateModelRequest& r) {
      *r.add_files() = AddFile(path, {bytes});
    };
  };
  ExpectRefused({
      {"code", add("modeling.py", "import os"), kInvalid, "FORBIDDEN_FILE",
       "modeling.py"},
      {"pickle", add("pytorch_model.bin", "x"), kInvalid, "FORBIDDEN_FILE",
       "pytorch_model.bin"},
      {"path", add("../config.json", "{}"), kInvalid, "FORBIDDEN_FILE",
       "../config.json"},
      {"document", add("cairn-release.json", "{}"), kInvalid, "FORBIDDEN_FILE",
       "written by the hub"},
      {"stray weights", add("extra.safetensors", "x"), kInvalid, "",
       "extra.safetensors"},
      {"twice", [](auto& r) { *r.add_files() = r.files(1); }, kInvalid,
       "MALFORMED_FILE", "config.json: is listed twice"},
      {"no weights", [](auto& r) { r.mutable_files()->DeleteSubrange(0, 1); },
       kInvalid, "MALFORMED_FILE", "model.safetensors: is missing"},
      {"no config", [](auto& r) { r.mutable_files()->DeleteSubrange(1, 1); },
       kInvalid, "MALFORMED_FILE", "config.json: is missing"},
      {"no files", [](auto& r) { r.clear_files(); }, kInvalid, "MALFORMED_FILE",
       "is missing"},
      {"auto_map",
       [this](auto& r) {
         *r.mutable_files(1) = AddFile("config.json", {R"({"auto_map": {}})"});
       },
       kInvalid, "FORBIDDEN_FILE", "auto_map"},
      {"config is no JSON",
       [this](auto& r) { *r.mutable_files(1) = AddFile("config.json", {"{"}); },
       kInvalid, "MALFORMED_FILE", "config.json"},
  });
}

TEST_F(ModelCatalogTest, RefusesSegmentsThatAreNotTheFile) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  ExpectRefused({
      {"size",
       [](auto& r) { r.mutable_files(0)->mutable_file()->set_size_bytes(3); },
       kInvalid, "MALFORMED_FILE", "size_bytes is 3"},
      {"digest",
       [](auto& r) {
         r.mutable_files(2)->mutable_file()->set_sha256(std::string(64, '0'));
       },
       kInvalid, "MALFORMED_FILE", "README.md: sha256 is '0000"},
      {"segment is no digest",
       [](auto& r) { r.mutable_files(0)->set_segments(1, "xyz"); }, kInvalid,
       "MALFORMED_FILE", "segment 'xyz'"},
      {"blob not uploaded",
       [](auto& r) {
         r.mutable_files(0)->set_segments(1, std::string(64, 'a'));
       },
       absl::StatusCode::kFailedPrecondition, "", std::string(64, 'a')},
      {"no segments", [](auto& r) { r.mutable_files(2)->clear_segments(); },
       kInvalid, "MALFORMED_FILE", "README.md: has no segments"},
      {"tensors in one segment",
       [this](auto& r) {
         auto parts = SmallCheckpoint(1);
         *r.mutable_files(0) =
             AddFile("model.safetensors", {parts[0], parts[1] + parts[2]});
       },
       kInvalid, "MALFORMED_FILE", "has 2 segments"},
      {"segments cut elsewhere",
       [this](auto& r) {
         auto parts = SmallCheckpoint(1);
         *r.mutable_files(0) = AddFile(
             "model.safetensors",
             {parts[0], parts[1].substr(0, 8), parts[1].substr(8) + parts[2]});
       },
       kInvalid, "MALFORMED_FILE", "segment 1 has 8 bytes; tensor 'a' has 16"},
      {"truncated",
       [this](auto& r) {
         auto parts = SmallCheckpoint(1);
         *r.mutable_files(0) =
             AddFile("model.safetensors", {parts[0], parts[1]});
       },
       kInvalid, "MALFORMED_FILE", "model.safetensors"},
  });
}

TEST_F(ModelCatalogTest, RefusesBadNamesLicencesAndPolicies) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  ExpectRefused({
      {"name", [](auto& r) { r.set_model_id("Tiny"); }, kInvalid, "",
       "model_id 'Tiny'"},
      {"name escapes", [](auto& r) { r.set_model_id("../x"); }, kInvalid, "",
       "model_id '../x'"},
      {"licence", [](auto& r) { r.set_license("free for all!"); }, kInvalid, "",
       "'free for all!' is not an SPDX identifier"},
      {"policy", [](auto& r) { r.mutable_policy()->set_alpha(2); }, kInvalid,
       "", "policy: alpha is 2"},
  });
}

TEST_F(ModelCatalogTest, ShardedCheckpointKeepsItsFiles) {
  auto layout_a = LayOutSafetensors({{"a", DType::kF32, {1}}}, {});
  auto layout_b = LayOutSafetensors({{"b", DType::kF32, {1}}}, {});
  ASSERT_TRUE(layout_a.ok() && layout_b.ok());
  v1::CreateModelRequest request;
  request.set_model_id("sharded");
  *request.add_files() =
      AddFile("model-00001-of-00002.safetensors", {layout_a->header, "aaaa"});
  *request.add_files() =
      AddFile("model-00002-of-00002.safetensors", {layout_b->header, "bbbb"});
  *request.add_files() =
      AddFile("model.safetensors.index.json",
              {R"({"metadata": {"total_size": 8}, "weight_map": {)"
               R"("a": "model-00001-of-00002.safetensors", )"
               R"("b": "model-00002-of-00002.safetensors"}})"});
  *request.add_files() = AddFile("config.json", {"{}"});
  auto model = models_.Create(chief_, request);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(MustGet<store::v1::ReleaseRecord>(model->head()).tensor_bytes(), 8);
}

TEST_F(ModelCatalogTest, StrangersSeePublicModelsOnly) {
  ASSERT_TRUE(models_.Create(chief_, SmallModel("hidden")).ok());
  EXPECT_EQ(models_.List(Caller(), {}).status().code(),
            absl::StatusCode::kUnauthenticated);
  auto open = SmallModel("open", 2);
  open.mutable_policy()->set_public_(true);
  ASSERT_TRUE(models_.Create(chief_, open).ok());
  auto seen = models_.List(Caller(), {});
  ASSERT_TRUE(seen.ok());
  ASSERT_EQ(seen->items_size(), 1);
  EXPECT_EQ(seen->items(0).name(), "models/open");
  EXPECT_EQ(models_.List(reader_, {})->items_size(), 2);
}

TEST_F(ModelCatalogTest, PolicyIsReplacedByCompareAndSwap) {
  auto model = models_.Create(chief_, SmallModel("tiny"));
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->policy().attempts_per_day(), 20);
  v1::SetPolicyRequest request;
  request.set_name("models/tiny");
  request.set_etag(model->etag());
  request.mutable_policy()->set_attempts_per_day(3);
  auto changed = models_.SetPolicy(chief_, request);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->policy().attempts_per_day(), 3);
  EXPECT_EQ(changed->policy().alpha(), 0.05);
  auto stale = models_.SetPolicy(chief_, request);
  EXPECT_EQ(stale.status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(GetReason(stale.status())->code, "ETAG_MISMATCH");
}

TEST_F(ModelCatalogTest, TorchScriptNeedsThePolicy) {
  auto request = SmallModel("tiny");
  *request.add_files() = AddFile("torchscript.pt", {"a module"});
  const absl::Status refused = models_.Create(chief_, request).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(GetReason(refused).has_value()) << refused;
  EXPECT_EQ(GetReason(refused)->code, "FORBIDDEN_FILE");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("torchscript: true"));
  request.mutable_policy()->set_torchscript(true);
  auto model = models_.Create(chief_, request);
  ASSERT_TRUE(model.ok()) << model.status();
  // It decides what is computed, and so what is evaluated and signed.
  auto plain = models_.Create(chief_, SmallModel("plain"));
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_NE(
      MustGet<store::v1::ReleaseRecord>(model->head()).release().digest(),
      MustGet<store::v1::ReleaseRecord>(plain->head()).release().digest());
  // Its arithmetic is float32.
  request = SmallModel("other");
  request.mutable_policy()->set_torchscript(true);
  request.mutable_policy()->set_eval_dtype("bfloat16");
  EXPECT_THAT(std::string(models_.Create(chief_, request).status().message()),
              HasSubstr("torchscript"));
}

}  // namespace
}  // namespace cairn
