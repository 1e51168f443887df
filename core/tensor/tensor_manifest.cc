#include "core/tensor/tensor_manifest.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

absl::StatusOr<std::string> HashTensor(const Checkpoint& checkpoint,
                                       const CheckpointTensor& tensor,
                                       std::vector<char>& tile) {
  Hasher hasher;
  const int64_t size = tensor.end - tensor.begin;
  for (int64_t offset = 0; offset < size; offset += kTileBytes) {
    auto part = absl::MakeSpan(tile).subspan(
        0, static_cast<size_t>(std::min(kTileBytes, size - offset)));
    CAIRN_RETURN_IF_ERROR(checkpoint.ReadBytes(tensor.name, offset, part));
    hasher.Update(absl::string_view(part.data(), part.size()));
  }
  return hasher.Finish().hex();
}

absl::Status Malformed(const v1::Tensor& tensor, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                       absl::StrCat("tensor manifest: tensor ",
                                    JsonQuote(tensor.name()), " ", what),
                       {{"tensor", tensor.name()}});
}

absl::Status CheckTensor(const v1::Tensor& tensor) {
  auto dtype = ParseDType(tensor.dtype());
  if (!dtype.has_value()) {
    return Malformed(tensor, absl::StrCat("has the unknown dtype ",
                                          JsonQuote(tensor.dtype())));
  }
  auto bytes = PackedBytes(*dtype, tensor.shape());
  if (!bytes.ok() || *bytes != tensor.size_bytes()) {
    return Malformed(tensor,
                     absl::StrCat("is said to have ", tensor.size_bytes(),
                                  " bytes, which ", tensor.dtype(), " ",
                                  ShapeText(tensor.shape()), " does not take"));
  }
  if (!Digest::Parse(tensor.sha256()).ok() || tensor.sha256().size() != 64) {
    return Malformed(tensor, "has no SHA-256 of 64 lower-case hex digits");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::TensorManifest> MakeTensorManifest(
    const Checkpoint& checkpoint, int threads) {
  const auto& tensors = checkpoint.tensors();
  std::vector<absl::StatusOr<std::string>> digests(tensors.size(),
                                                   std::string());
  std::atomic<size_t> next = 0;
  auto work = [&] {
    std::vector<char> tile(kTileBytes);
    for (size_t i = next++; i < tensors.size(); i = next++) {
      digests[i] = HashTensor(checkpoint, tensors[i], tile);
    }
  };
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  }
  v1::TensorManifest manifest;
  for (size_t i = 0; i < tensors.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(digests[i]);
    v1::Tensor& out = *manifest.add_tensors();
    out.set_name(tensors[i].name);
    out.set_dtype(std::string(DTypeName(tensors[i].dtype)));
    out.mutable_shape()->Add(tensors[i].shape.begin(), tensors[i].shape.end());
    out.set_sha256(*digests[i]);
    out.set_size_bytes(tensors[i].end - tensors[i].begin);
    out.set_file(tensors[i].file);
    out.set_file_offset(tensors[i].begin);
  }
  return manifest;
}

std::string SerializeTensorManifest(const v1::TensorManifest& manifest) {
  // No maps and no unknown fields: protobuf writes fields in order of their
  // numbers.
  return manifest.SerializeAsString();
}

absl::StatusOr<v1::TensorManifest> ParseTensorManifest(
    absl::string_view bytes) {
  v1::TensorManifest manifest;
  if (!manifest.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                         "the tensor manifest is not a TensorManifest message");
  }
  for (int i = 0; i < manifest.tensors_size(); ++i) {
    const v1::Tensor& tensor = manifest.tensors(i);
    CAIRN_RETURN_IF_ERROR(CheckTensor(tensor));
    if (i > 0 && manifest.tensors(i - 1).name() >= tensor.name()) {
      return Malformed(tensor, "is out of order or there twice");
    }
  }
  return manifest;
}

const v1::Tensor* FindTensor(const v1::TensorManifest& manifest,
                             absl::string_view name) {
  const auto& tensors = manifest.tensors();
  auto it = std::lower_bound(tensors.begin(), tensors.end(), name,
                             [](const v1::Tensor& t, absl::string_view key) {
                               return absl::string_view(t.name()) < key;
                             });
  return it == tensors.end() || it->name() != name ? nullptr : &*it;
}

}  // namespace cairn
