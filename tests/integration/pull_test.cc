// Releases pulled into directories over real TLS connections.

#include "client/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "absl/strings/str_cat.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/release/release_document.h"
#include "tests/integration/local_server.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

using Contents = std::map<std::string, std::string>;

// Serves the files of releases; after `bytes_left` every stream breaks for
// good.
class FileServer : public v1::DownloadService::Service {
 public:
  std::map<std::string, Contents> releases;
  int64_t bytes_left = -1;
  int64_t sent = 0;

  grpc::Status Read(grpc::ServerContext*, const v1::ReadRequest* request,
                    grpc::ServerWriter<v1::ReadResponse>* writer) override {
    const v1::ReleaseFile& file = request->release_file();
    const std::string& content = releases[file.release()][file.path()];
    std::string part = content.substr(
        static_cast<size_t>(request->offset()),
        request->limit() > 0 ? static_cast<size_t>(request->limit())
                             : std::string::npos);
    const bool breaks =
        bytes_left >= 0 && static_cast<int64_t>(part.size()) > bytes_left;
    if (breaks) part.resize(static_cast<size_t>(bytes_left));
    if (bytes_left >= 0) bytes_left -= static_cast<int64_t>(part.size());
    v1::ReadResponse response;
    response.set_offset(request->offset());
    response.set_chunk(part);
    response.set_crc32c(Crc32c(part));
    response.set_size_bytes(static_cast<int64_t>(content.size()));
    writer->Write(response);
    sent += static_cast<int64_t>(part.size());
    return breaks ? grpc::Status(grpc::StatusCode::INTERNAL, "cut on plan")
                  : grpc::Status::OK;
  }
};

class PullTest : public ::testing::Test {
 protected:
  PullTest()
      : root_(SigningKey::Generate()),
        release_key_(SigningKey::Generate()),
        server_({&files_}),
        hub_(server_.Connect()) {
    char name[] = "/tmp/cairn-pull-test-XXXXXX";
    scratch_ = mkdtemp(name);
    directory_ = scratch_ + "/model";
    options_.root_fingerprint = RootFingerprint(root_.public_hex());
    options_.meter = [](const std::string& label, int64_t total) {
      return std::make_unique<ProgressMeter>(ProgressStyle::kNone, label,
                                             total);
    };
  }
  ~PullTest() override { fs::remove_all(scratch_); }

  // Publishes a release with these files.
  v1::Release Publish(const std::string& version, const Contents& contents) {
    v1::ReleaseManifest manifest;
    manifest.set_hub_id("hub");
    manifest.set_name("models/m/releases/" + version);
    manifest.set_version(version);
    manifest.set_digest(Digest::Of(version).prefixed());
    manifest.mutable_create_time()->set_seconds(1000);
    for (const auto& [path, bytes] : contents) {
      v1::File& file = *manifest.add_files();
      file.set_path(path);
      file.set_size_bytes(static_cast<int64_t>(bytes.size()));
      file.set_sha256(Digest::Of(bytes).hex());
      Hasher git = GitBlobHasher(file.size_bytes());
      git.Update(bytes);
      file.set_git_sha1(git.FinishHex());
    }
    v1::Delegation delegation;
    delegation.set_hub_id("hub");
    delegation.set_release_key(release_key_.public_hex());
    delegation.mutable_not_after()->set_seconds(2000);
    const std::string bytes = SerializeReleaseManifest(manifest);
    auto document =
        RenderReleaseDocument(bytes, SignRelease(bytes, release_key_),
                              SignDelegation(delegation, root_));
    EXPECT_TRUE(document.ok()) << document.status();
    v1::Release release;
    release.set_name(manifest.name());
    release.set_version(version);
    release.set_digest(manifest.digest());
    *release.mutable_files() = manifest.files();
    v1::File& file = *release.add_files();
    file.set_path("cairn-release.json");
    file.set_size_bytes(static_cast<int64_t>(document->size()));
    file.set_sha256(Digest::Of(*document).hex());
    files_.releases[release.name()] = contents;
    files_.releases[release.name()]["cairn-release.json"] = *document;
    return release;
  }

  absl::Status Pull(const v1::Release& release) {
    return PullRelease(*hub_, release, directory_, options_).status();
  }

  Contents OnDisk() {
    Contents out;
    for (const auto& entry : fs::recursive_directory_iterator(directory_)) {
      if (!entry.is_regular_file()) continue;
      out[fs::relative(entry.path(), directory_)] = *ReadFile(entry.path());
    }
    return out;
  }

  SigningKey root_;
  SigningKey release_key_;
  FileServer files_;
  testing::LocalServer server_;
  std::unique_ptr<HubChannel> hub_;
  PullOptions options_;
  std::string scratch_;
  std::string directory_;
};

TEST_F(PullTest, TheDirectoryIsWhatWasPublished) {
  v1::Release release = Publish(
      "v1.0.0", {{"config.json", "{}"}, {"model.safetensors", "weights"}});
  absl::Status status = Pull(release);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(OnDisk(), files_.releases[release.name()]);
}

TEST_F(PullTest, ACutPullNeverLooksWholeAndGoesOn) {
  const std::string weights = RandomBytes(200'000);
  v1::Release release = Publish(
      "v1.0.0", {{"config.json", "{}"}, {"model.safetensors", weights}});
  const auto document = static_cast<int64_t>(
      files_.releases[release.name()]["cairn-release.json"].size());
  files_.bytes_left = document + 2 + 150'000;
  EXPECT_FALSE(Pull(release).ok());
  EXPECT_FALSE(fs::exists(directory_ + "/cairn-release.json"));
  EXPECT_FALSE(fs::exists(directory_ + "/model.safetensors"));
  files_.bytes_left = -1;
  files_.sent = 0;
  absl::Status status = Pull(release);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(OnDisk(), files_.releases[release.name()]);
  EXPECT_LT(files_.sent, document + 60'000);
}

TEST_F(PullTest, AnotherReleaseReplacesTheFormerOne) {
  const std::string tokenizer = RandomBytes(100'000);
  v1::Release first = Publish("v1.0.0", {{"tokenizer.json", tokenizer},
                                         {"model.safetensors", "one"},
                                         {"README.md", "gone later"}});
  v1::Release second = Publish(
      "v1.1.0", {{"tokenizer.json", tokenizer}, {"model.safetensors", "two"}});
  ASSERT_TRUE(Pull(first).ok());
  files_.sent = 0;
  absl::Status status = Pull(second);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(OnDisk(), files_.releases[second.name()]);
  EXPECT_LT(files_.sent, 50'000) << "what is there is kept by digest";
}

TEST_F(PullTest, ADirectoryOfSomethingElseIsLeftAlone) {
  v1::Release release = Publish("v1.0.0", {{"config.json", "{}"}});
  ASSERT_TRUE(MakeDirectory(directory_).ok());
  ASSERT_TRUE(WriteFile(directory_ + "/thesis.txt", "mine").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Pull(release)));
  EXPECT_EQ(OnDisk(), (Contents{{"thesis.txt", "mine"}}));
}

TEST_F(PullTest, AnotherRootIsNotTrusted) {
  v1::Release release = Publish("v1.0.0", {{"config.json", "{}"}});
  options_.root_fingerprint =
      RootFingerprint(SigningKey::Generate().public_hex());
  EXPECT_TRUE(absl::IsDataLoss(Pull(release)));
  EXPECT_FALSE(fs::exists(directory_));
}

TEST_F(PullTest, FilesThatWereNotSignedAreNotTaken) {
  v1::Release release = Publish("v1.0.0", {{"config.json", "{}"}});
  v1::File& file = *release.add_files();
  file.set_path("tokenizer.json");
  file.set_sha256(Digest::Of("x").hex());
  absl::Status status = Pull(release);
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(status.ToString(), HasSubstr("tokenizer.json"));
}

TEST_F(PullTest, OtherBytesThanThoseSignedAreNotTaken) {
  v1::Release release = Publish("v1.0.0", {{"config.json", "{}"}});
  files_.releases[release.name()]["config.json"] = "[]";
  absl::Status status = Pull(release);
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(status.ToString(), HasSubstr("config.json"));
  EXPECT_FALSE(fs::exists(directory_ + "/cairn-release.json"));
}

TEST_F(PullTest, PathsOutOfTheDirectoryAreRefused) {
  v1::Release release = Publish("v1.0.0", {{"../evil.json", "{}"}});
  EXPECT_FALSE(Pull(release).ok());
  EXPECT_FALSE(fs::exists(scratch_ + "/evil.json"));
}

}  // namespace
}  // namespace cairn
