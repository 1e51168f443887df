#ifndef CAIRN_SERVER_RELEASE_RELEASE_FIXTURE_H_
#define CAIRN_SERVER_RELEASE_RELEASE_FIXTURE_H_

#include <map>
#include <string>
#include <vector>

#include "cairn/v1/model.pb.h"
#include "core/base/clock.h"
#include "core/base/ed25519.h"
#include "gtest/gtest.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/release/release_signer.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn::testing {

// Stores in memory, a signer, and a small checkpoint that users/chief, a
// maintainer, has uploaded.
class ReleaseFixture : public ::testing::Test {
 protected:
  ReleaseFixture();

  // Stores bytes as a blob of users/chief and returns its digest, hex.
  std::string Upload(const std::string& bytes);
  // A file as CreateModel wants it: these parts, one after the other.
  v1::ModelFile AddFile(const std::string& path,
                        const std::vector<std::string>& parts);
  // model.safetensors with the F32 tensors "a" [2, 2] and "b" [3], config.json
  // and README.md; `fill` is each element of "a".
  v1::CreateModelRequest SmallModel(const std::string& id, float fill = 1);
  // Header and tensor bytes of that model.safetensors.
  static std::vector<std::string> SmallCheckpoint(float fill);

  template <class Record>
  Record MustGet(const std::string& name) {
    auto record = store_.Read().Get<Record>(name);
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() ? *record : Record();
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_{absl::FromUnixSeconds(1'800'000'000)};
  HubStore store_{metadata_, clock_};
  MemoryBlobStore blobs_{clock_};
  const SigningKey root_ = SigningKey::Generate();
  const ReleaseSigner signer_;
  const Caller chief_{.user = "users/chief", .role = v1::User::MAINTAINER};
  const Caller reader_{.user = "users/eve", .role = v1::User::READER};
};

}  // namespace cairn::testing

#endif  // CAIRN_SERVER_RELEASE_RELEASE_FIXTURE_H_
