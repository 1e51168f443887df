#include "tests/fault/hub_parts.h"

#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/release/release_digest.h"
#include "core/release/release_document.h"
#include "core/tensor/safetensors.h"
#include "core/tensor/tensor_manifest.h"
#include "server/flow/contribution_state.h"
#include "server/flow/schema.h"
#include "server/ops/record_walk.h"

namespace cairn::testing {
namespace {

constexpr char kHubId[] = "hub-test";
constexpr absl::Duration kDelegated = absl::Hours(1000);
// So small that every few chunks are synced.
constexpr int64_t kSyncBytes = 64 << 10;

// The same keys in every process: a model created twice is the same model.
SigningKey KeyOf(char fill) {
  return *SigningKey::FromSeedHex(std::string(64, fill));
}

ReleaseSigner MakeSigner(absl::Time now) {
  SigningKey key = KeyOf('1');
  v1::Delegation delegation;
  delegation.set_hub_id(kHubId);
  delegation.set_release_key(key.public_hex());
  *delegation.mutable_not_before() = ToTimestamp(now - kDelegated);
  *delegation.mutable_not_after() = ToTimestamp(now + kDelegated);
  return ReleaseSigner(kHubId, key, SignDelegation(delegation, KeyOf('2')),
                       now + kDelegated);
}

std::string Floats(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string TensorA(float fill) { return Floats({fill, fill, fill, fill}); }

}  // namespace

HubParts::HubParts(std::unique_ptr<RocksMetadataStore> metadata,
                   std::unique_ptr<FsBlobStore> blobs)
    : metadata_(std::move(metadata)),
      blobs_(std::move(blobs)),
      store_(*metadata_, Clock::System()),
      uploads_(store_, *blobs_, {.file = {.sync_bytes = kSyncBytes}}),
      signer_(MakeSigner(Clock::System().Now())),
      models_(store_, *blobs_, signer_),
      publisher_(store_, *blobs_, signer_) {}

absl::StatusOr<std::unique_ptr<HubParts>> HubParts::Open(
    const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(auto blobs, FsBlobStore::Open(directory));
  CAIRN_ASSIGN_OR_RETURN(
      auto metadata, RocksMetadataStore::Open(
                         absl::StrCat(directory, "/metadata"), HubSchema()));
  return std::unique_ptr<HubParts>(
      new HubParts(std::move(metadata), std::move(blobs)));
}

std::string HubParts::Bytes(uint64_t seed, size_t size) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (size_t at = 0; at < size; at += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, std::min<size_t>(8, size - at));
  }
  return bytes;
}

absl::Status WriteChunk(UploadStream& stream, int64_t offset,
                        const std::string& chunk) {
  absl::Status told = absl::InternalError("the chunk waits for others");
  stream.Write(offset, {chunk}, Crc32c(chunk),
               [&told](absl::Status status) { told = std::move(status); });
  return told;
}

absl::Status HubParts::SendChunks(const std::string& upload,
                                  const std::string& content, size_t from,
                                  size_t size) {
  CAIRN_ASSIGN_OR_RETURN(auto stream, uploads_.OpenStream(caller_, upload));
  for (size_t at = from; at < content.size(); at += size) {
    const std::string chunk = content.substr(at, size);
    CAIRN_RETURN_IF_ERROR(WriteChunk(*stream, static_cast<int64_t>(at), chunk));
  }
  return stream->End().status();
}

absl::Status HubParts::Send(const std::vector<std::string>& blobs) {
  v1::BatchUploadRequest batch;
  for (const std::string& bytes : blobs) {
    auto* item = batch.add_items();
    item->set_sha256(Digest::Of(bytes).hex());
    item->set_data(bytes);
  }
  return uploads_.Batch(caller_, batch).status();
}

absl::StatusOr<v1::ModelFile> HubParts::SendFile(
    const std::string& path, const std::vector<std::string>& parts) {
  CAIRN_RETURN_IF_ERROR(Send(parts));
  v1::ModelFile file;
  std::string whole;
  for (const std::string& part : parts) {
    file.add_segments(Digest::Of(part).hex());
    whole += part;
  }
  file.mutable_file()->set_path(path);
  file.mutable_file()->set_size_bytes(static_cast<int64_t>(whole.size()));
  file.mutable_file()->set_sha256(Digest::Of(whole).hex());
  return file;
}

absl::StatusOr<v1::Model> HubParts::CreateModel(const std::string& id,
                                                float fill) {
  CAIRN_ASSIGN_OR_RETURN(
      auto layout,
      LayOutSafetensors({{"a", DType::kF32, {2, 2}}, {"b", DType::kF32, {3}}},
                        {{"format", "pt"}}));
  v1::CreateModelRequest request;
  request.set_model_id(id);
  request.set_request_id(absl::StrCat("create-", id));
  request.set_license("Apache-2.0");
  CAIRN_ASSIGN_OR_RETURN(
      *request.add_files(),
      SendFile("model.safetensors",
               {layout.header, TensorA(fill), Floats({1, 2, 3})}));
  CAIRN_ASSIGN_OR_RETURN(
      *request.add_files(),
      SendFile("config.json", {R"({"architectures": ["LlamaForCausalLM"]})"}));
  return models_.Create(caller_, request);
}

absl::StatusOr<Publication> HubParts::Prepare(const std::string& model,
                                              float fill) {
  CAIRN_ASSIGN_OR_RETURN(auto head, store_.Read().Head(model));
  CAIRN_ASSIGN_OR_RETURN(
      Digest digest, Digest::Parse(head.release().tensor_manifest_sha256()));
  CAIRN_ASSIGN_OR_RETURN(auto source, blobs_->Open(digest));
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadAll(*source, 1 << 20));
  CAIRN_ASSIGN_OR_RETURN(auto tensors, ParseTensorManifest(text));
  for (v1::Tensor& tensor : *tensors.mutable_tensors()) {
    if (tensor.name() != "a") continue;
    CAIRN_ASSIGN_OR_RETURN(Digest merged, blobs_->Put(TensorA(fill)));
    tensor.set_sha256(merged.hex());
  }
  Publication out;
  out.model = model;
  out.head = head.release().name();
  out.origin = store::v1::ReleaseRecord::MERGED;
  out.candidate.set_release(out.head);
  CAIRN_ASSIGN_OR_RETURN(Digest manifest,
                         blobs_->Put(SerializeTensorManifest(tensors)));
  out.candidate.set_tensor_manifest_sha256(manifest.hex());
  out.candidate.set_digest(ReleaseDigest(tensors, head.release().files()));
  out.candidate.mutable_merge_record()->set_strategy("average");
  out.line.emplace_back().set_strategy("average");
  return out;
}

absl::StatusOr<std::string> HubParts::Merge(const std::string& model,
                                            float fill) {
  CAIRN_ASSIGN_OR_RETURN(Publication publication, Prepare(model, fill));
  CAIRN_ASSIGN_OR_RETURN(auto release, publisher_.Build(publication));
  CAIRN_RETURN_IF_ERROR(store_.Transact([&](HubTransaction& transaction) {
    return publisher_.Commit(transaction, publication, release);
  }));
  return release.release().name();
}

absl::StatusOr<SweepResult> HubParts::Sweep(absl::Duration grace) {
  BlobSweeper sweeper(*blobs_, Clock::System(), grace,
                      [this](const std::function<void(const Digest&)>& visit) {
                        return ForEachNamedBlob(
                            store_.Read(), *blobs_,
                            [&](const NamedBlob& named) {
                              auto digest = Digest::Parse(named.sha256);
                              if (digest.ok()) visit(*digest);
                            });
                      });
  return sweeper.Sweep();
}

absl::Status HubParts::Pack() {
  std::vector<Digest> digests;
  CAIRN_RETURN_IF_ERROR(blobs_->List([&](const BlobStat& stat) {
    digests.push_back(stat.digest);
    return true;
  }));
  for (const Digest& digest : digests) {
    absl::Status packed = blobs_->Pack(digest, [] { return true; }).status();
    // Swept meanwhile.
    if (!packed.ok() && !absl::IsNotFound(packed)) return packed;
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::CheckResponse> HubParts::Check() {
  return CheckStore(store_.Read(), *blobs_, BlobCheck::kContent);
}

}  // namespace cairn::testing
