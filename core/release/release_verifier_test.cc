#include "core/release/release_verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "core/base/digest.h"
#include "core/base/status_util.h"
#include "core/release/release_digest.h"
#include "core/release/release_document.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/safetensors.h"
#include "core/tensor/tensor_manifest.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

std::string Slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void Spill(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

class ReleaseVerifierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        std::filesystem::path(::testing::TempDir()) /
        ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    auto writer = SafetensorsWriter::Create(
        (directory_ / "model.safetensors").string(),
        {{.name = "w", .dtype = DType::kF32, .shape = {2, 2}}}, {});
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Write("w", 0, std::string(16, '\x3f')).ok());
    ASSERT_TRUE(std::move(**writer).Finish().ok());
    Spill(directory_ / "config.json", "{\"hidden_size\": 2}");
    Spill(directory_ / "README.md", "A small model.\n");
    Publish(root_, release_key_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  v1::ReleaseManifest Describe() {
    v1::ReleaseManifest manifest;
    manifest.set_hub_id("hub");
    manifest.set_name("models/m/releases/v1.0.0");
    manifest.set_version("v1.0.0");
    manifest.mutable_create_time()->set_seconds(1'700'000'000);
    manifest.mutable_create_time()->set_nanos(120'000'000);
    auto& record = *manifest.mutable_merge_record();
    (*record.mutable_parameters())["lambda"] = "0.4";
    (*record.mutable_parameters())["density"] = "0.2";
    record.add_search()->set_lambda(0.1);
    for (const char* name : {"README.md", "config.json", "model.safetensors"}) {
      const std::string bytes = Slurp(directory_ / name);
      v1::File& file = *manifest.add_files();
      file.set_path(name);
      file.set_size_bytes(static_cast<int64_t>(bytes.size()));
      file.set_sha256(Digest::Of(bytes).hex());
    }
    auto checkpoint = Checkpoint::OpenDirectory(directory_.string());
    manifest.set_digest(
        ReleaseDigest(*MakeTensorManifest(*checkpoint), manifest.files()));
    return manifest;
  }

  v1::Delegation Delegate(const SigningKey& key) {
    v1::Delegation delegation;
    delegation.set_hub_id("hub");
    delegation.set_release_key(key.public_hex());
    delegation.mutable_not_before()->set_seconds(1'600'000'000);
    delegation.mutable_not_after()->set_seconds(1'800'000'000);
    return delegation;
  }

  void Publish(const SigningKey& root, const SigningKey& key) {
    PublishWith(root, key, Describe(), Delegate(key));
  }

  void PublishWith(const SigningKey& root, const SigningKey& key,
                   const v1::ReleaseManifest& manifest,
                   const v1::Delegation& delegation) {
    const std::string bytes = SerializeReleaseManifest(manifest);
    auto text = RenderReleaseDocument(bytes, SignRelease(bytes, key),
                                      SignDelegation(delegation, root));
    ASSERT_TRUE(text.ok()) << text.status();
    Spill(directory_ / "cairn-release.json", *text);
  }

  absl::Status Verify(VerifyDepth depth = VerifyDepth::kFiles) {
    return VerifyDirectory(
               directory_.string(),
               {.root_fingerprint = RootFingerprint(root_.public_hex()),
                .depth = depth})
        .status();
  }

  void ExpectBroken(const std::string& named) {
    absl::Status status = Verify();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(named));
  }

  std::filesystem::path directory_;
  SigningKey root_ = SigningKey::Generate();
  SigningKey release_key_ = SigningKey::Generate();
};

TEST_F(ReleaseVerifierTest, AcceptsWhatWasPublished) {
  EXPECT_TRUE(Verify().ok()) << Verify();
  EXPECT_TRUE(Verify(VerifyDepth::kTensors).ok());
}

TEST_F(ReleaseVerifierTest, RefusesEveryFlippedBit) {
  for (const char* name : {"README.md", "config.json", "model.safetensors",
                           "cairn-release.json"}) {
    const std::string original = Slurp(directory_ / name);
    for (size_t bit = 0; bit < original.size() * 8; bit += 23) {
      std::string bytes = original;
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
      Spill(directory_ / name, bytes);
      absl::Status status = Verify();
      ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss)
          << name << " bit " << bit << ": " << status;
      ASSERT_THAT(std::string(status.message()), HasSubstr(name));
    }
    Spill(directory_ / name, original);
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_F(ReleaseVerifierTest, NamesMissingAndExtraFiles) {
  Spill(directory_ / "extra.txt", "");
  ExpectBroken("extra.txt: is not part of the release");
  std::filesystem::remove(directory_ / "extra.txt");
  std::filesystem::create_directory(directory_ / "sub");
  Spill(directory_ / "sub" / "model.safetensors", "");
  ExpectBroken("sub/model.safetensors");
  std::filesystem::remove_all(directory_ / "sub");
  std::filesystem::remove(directory_ / "README.md");
  ExpectBroken("README.md: is missing");
}

TEST_F(ReleaseVerifierTest, SaysThatADirectoryWasNotPulled) {
  std::filesystem::remove(directory_ / "cairn-release.json");
  EXPECT_EQ(Verify().code(), absl::StatusCode::kNotFound);
}

TEST_F(ReleaseVerifierTest, RefusesAnotherRoot) {
  Publish(SigningKey::Generate(), release_key_);
  ExpectBroken("fingerprint");
  EXPECT_TRUE(VerifyDirectory(directory_.string(), {}).ok())
      << "without a trusted root the directory only agrees with itself";
}

TEST_F(ReleaseVerifierTest, RefusesAKeyThatTheRootDidNotDelegateTo) {
  SigningKey thief = SigningKey::Generate();
  PublishWith(root_, thief, Describe(), Delegate(release_key_));
  ExpectBroken("has not delegated to");
}

TEST_F(ReleaseVerifierTest, RefusesAnExpiredDelegationAndAnotherHub) {
  v1::Delegation delegation = Delegate(release_key_);
  delegation.mutable_not_after()->set_seconds(1'650'000'000);
  PublishWith(root_, release_key_, Describe(), delegation);
  ExpectBroken("was not valid");
  delegation = Delegate(release_key_);
  delegation.set_hub_id("another");
  PublishWith(root_, release_key_, Describe(), delegation);
  ExpectBroken("another");
}

TEST_F(ReleaseVerifierTest, RefusesADigestThatTheFilesDoNotHave) {
  v1::ReleaseManifest manifest = Describe();
  manifest.set_digest("sha256:" + std::string(64, '0'));
  PublishWith(root_, release_key_, manifest, Delegate(release_key_));
  absl::Status status = Verify(VerifyDepth::kTensors);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("have the digest"));
}

TEST_F(ReleaseVerifierTest, RefusesTheDocumentOfAnotherRelease) {
  v1::ReleaseManifest manifest = Describe();
  manifest.mutable_files(1)->set_sha256(std::string(64, 'a'));
  PublishWith(root_, release_key_, manifest, Delegate(release_key_));
  ExpectBroken("config.json");
}

// Documents that are out in the world must verify for ever.
TEST(ReleaseDocumentTest, RendersTheSameBytesAsEver) {
  const char* root_path = std::getenv("CAIRN_SOURCE_DIR");
  const std::string golden =
      Slurp(std::string(root_path == nullptr ? "." : root_path) +
            "/tests/fuzz/corpus/release_document_fuzzer/signed.json");
  SigningKey root = *SigningKey::FromSeedHex(std::string(64, '1'));
  SigningKey key = *SigningKey::FromSeedHex(std::string(64, '2'));
  v1::ReleaseManifest manifest;
  manifest.set_hub_id("hub");
  manifest.set_name("models/m/releases/v1.1.0");
  manifest.set_version("v1.1.0");
  manifest.set_digest("sha256:" + std::string(64, 'd'));
  manifest.mutable_create_time()->set_seconds(1'700'000'000);
  manifest.mutable_create_time()->set_nanos(5'000'000);
  v1::File& file = *manifest.add_files();
  file.set_path("config.json");
  file.set_size_bytes(12);
  file.set_sha256(std::string(64, 'e'));
  auto& record = *manifest.mutable_merge_record();
  (*record.mutable_parameters())["lambda"] = "0.4";
  (*record.mutable_parameters())["density"] = "0.2";
  record.add_inputs()->set_coefficient(0.1);
  v1::Report& report = *manifest.add_reports();
  report.set_base(1.0 / 3.0);
  report.add_confidence_interval(-1e-20);
  report.add_confidence_interval(1e300);
  v1::Delegation delegation;
  delegation.set_hub_id("hub");
  delegation.set_release_key(key.public_hex());
  delegation.mutable_not_before()->set_seconds(1'600'000'000);
  delegation.mutable_not_after()->set_seconds(1'800'000'000);
  const std::string bytes = SerializeReleaseManifest(manifest);
  auto text = RenderReleaseDocument(bytes, SignRelease(bytes, key),
                                    SignDelegation(delegation, root));
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, golden);
  EXPECT_TRUE(
      VerifyReleaseDocument(*text, RootFingerprint(root.public_hex())).ok());
}

TEST(ReleaseDigestTest, IsTheDocumentedText) {
  v1::TensorManifest tensors;
  auto& b = *tensors.add_tensors();
  b.set_name("b\"");
  b.set_dtype("F32");
  b.add_shape(2);
  b.add_shape(3);
  b.set_sha256("11");
  auto& a = *tensors.add_tensors();
  a.set_name("a");
  a.set_dtype("BF16");
  a.set_sha256("22");
  std::vector<v1::File> files(4);
  files[0].set_path("tokenizer.json");
  files[0].set_sha256("44");
  files[1].set_path("config.json");
  files[1].set_sha256("33");
  files[2].set_path("README.md");
  files[3].set_path("model.safetensors");
  EXPECT_EQ(
      ReleaseDigest(tensors, files),
      Digest::Of("tensor \"a\" BF16 [] 22\ntensor \"b\\\"\" F32 [2,3] 11\n"
                 "file \"config.json\" 33\nfile \"tokenizer.json\" 44\n")
          .prefixed());
}

TEST(ReleaseDigestTest, CommitIsFortyHexOfTheManifestDigest) {
  const std::string digest = ManifestDigest("manifest");
  EXPECT_EQ(CommitId(digest),
            Digest::Of(std::string("cairn.commit.v1\0", 16) + digest.substr(7))
                .hex()
                .substr(0, 40));
  EXPECT_EQ(CommitId(digest.substr(7)), CommitId(digest));
}

}  // namespace
}  // namespace cairn
