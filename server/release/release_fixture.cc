#include "server/release/release_fixture.h"

#include <cstring>

#include "core/base/digest.h"
#include "core/release/release_document.h"
#include "core/tensor/safetensors.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/contribution_state.h"

namespace cairn::testing {
namespace {

constexpr char kHubId[] = "hub-test";
constexpr absl::Duration kDelegated = absl::Hours(1000);

ReleaseSigner MakeSigner(const SigningKey& root, absl::Time now) {
  SigningKey key = SigningKey::Generate();
  v1::Delegation delegation;
  delegation.set_hub_id(kHubId);
  delegation.set_release_key(key.public_hex());
  *delegation.mutable_not_before() = ToTimestamp(now);
  *delegation.mutable_not_after() = ToTimestamp(now + kDelegated);
  return ReleaseSigner(kHubId, key, SignDelegation(delegation, root),
                       now + kDelegated);
}

std::string Floats(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace

ReleaseFixture::ReleaseFixture() : signer_(MakeSigner(root_, clock_.Now())) {}

std::string ReleaseFixture::Upload(const std::string& bytes) {
  Digest digest = *blobs_.Put(bytes);
  absl::Status owned = store_.Transact([&](HubTransaction& txn) {
    return RecordOwner(txn, chief_.user, digest,
                       static_cast<int64_t>(bytes.size()));
  });
  EXPECT_TRUE(owned.ok()) << owned;
  return digest.hex();
}

v1::ModelFile ReleaseFixture::AddFile(const std::string& path,
                                      const std::vector<std::string>& parts) {
  v1::ModelFile file;
  std::string whole;
  for (const std::string& part : parts) {
    file.add_segments(Upload(part));
    whole += part;
  }
  file.mutable_file()->set_path(path);
  file.mutable_file()->set_size_bytes(static_cast<int64_t>(whole.size()));
  file.mutable_file()->set_sha256(Digest::Of(whole).hex());
  return file;
}

std::vector<std::string> ReleaseFixture::SmallCheckpoint(float fill) {
  auto layout =
      LayOutSafetensors({{"a", DType::kF32, {2, 2}}, {"b", DType::kF32, {3}}},
                        {{"format", "pt"}});
  EXPECT_TRUE(layout.ok()) << layout.status();
  return {layout->header, Floats({fill, fill, fill, fill}), Floats({1, 2, 3})};
}

v1::CreateModelRequest ReleaseFixture::SmallModel(const std::string& id,
                                                  float fill) {
  v1::CreateModelRequest request;
  request.set_model_id(id);
  request.set_license("Apache-2.0");
  *request.add_files() = AddFile("model.safetensors", SmallCheckpoint(fill));
  *request.add_files() =
      AddFile("config.json", {R"({"architectures": ["LlamaForCausalLM"]})"});
  *request.add_files() = AddFile("README.md", {"# small\n"});
  return request;
}

}  // namespace cairn::testing
