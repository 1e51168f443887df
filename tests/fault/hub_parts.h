#ifndef CAIRN_TESTS_FAULT_HUB_PARTS_H_
#define CAIRN_TESTS_FAULT_HUB_PARTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/v1/model.pb.h"
#include "core/base/clock.h"
#include "core/base/ed25519.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/flow/publisher.h"
#include "server/intake/upload_sessions.h"
#include "server/ops/store_check.h"
#include "server/release/model_catalog.h"
#include "server/release/release_publisher.h"
#include "server/release/release_signer.h"
#include "storage/blob_sweeper.h"
#include "storage/fs/fs_blob_store.h"
#include "storage/rocksdb/rocksdb_metadata_store.h"

namespace cairn::testing {

// Writes a chunk to the only stream of its upload, which takes it at once.
absl::Status WriteChunk(UploadStream& stream, int64_t offset,
                        const std::string& chunk);

// The parts of a hub that keep bytes and records, over the real stores in one
// directory, without transport and workers; so that a test opens, breaks and
// opens them again within milliseconds. Thread-safe as its parts are.
class HubParts {
 public:
  static absl::StatusOr<std::unique_ptr<HubParts>> Open(
      const std::string& directory);

  // Bytes that every process makes alike from `seed`.
  static std::string Bytes(uint64_t seed, size_t size);

  // Sends a small checkpoint, whose tensor "a" is `fill`, and makes it a
  // model. Harmless to repeat.
  absl::StatusOr<v1::Model> CreateModel(const std::string& id, float fill);
  // Publishes the head of a model with other bytes in tensor "a".
  absl::StatusOr<std::string> Merge(const std::string& model, float fill);
  // Removes what no record names and nobody touched for `grace`.
  absl::StatusOr<SweepResult> Sweep(absl::Duration grace);
  // Packs every blob that is worth it.
  absl::Status Pack();
  // What is wrong with the records and all bytes that they name.
  absl::StatusOr<v1::CheckResponse> Check();
  // Sends the bytes from `from` to the end in one stream, as chunks of `size`.
  absl::Status SendChunks(const std::string& upload, const std::string& content,
                          size_t from, size_t size);
  // Sends bytes as one batch.
  absl::Status Send(const std::vector<std::string>& blobs);

  BlobStore& blobs() { return *blobs_; }
  HubStore& store() { return store_; }
  UploadSessions& uploads() { return uploads_; }
  const Caller& caller() const { return caller_; }

 private:
  HubParts(std::unique_ptr<RocksMetadataStore> metadata,
           std::unique_ptr<FsBlobStore> blobs);
  absl::StatusOr<v1::ModelFile> SendFile(const std::string& path,
                                         const std::vector<std::string>& parts);
  absl::StatusOr<Publication> Prepare(const std::string& model, float fill);

  const std::unique_ptr<RocksMetadataStore> metadata_;
  const std::unique_ptr<FsBlobStore> blobs_;
  const Caller caller_{.user = "users/chief", .role = v1::User::MAINTAINER};
  HubStore store_;
  UploadSessions uploads_;
  ReleaseSigner signer_;
  ModelCatalog models_;
  ReleasePublisher publisher_;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_FAULT_HUB_PARTS_H_
