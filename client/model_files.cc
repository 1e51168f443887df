#include "client/model_files.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/release/file_policy.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

bool IsTaken(const std::string& path) {
  return path != kReleaseDocumentFile && CheckReleaseFile(path).ok();
}

// Reads [begin, end) once, into the digests of the blob and of the file.
absl::StatusOr<Digest> HashRange(const ByteSource& source, int64_t begin,
                                 int64_t end, Hasher& whole,
                                 std::string& buffer,
                                 const TransferProgress& progress) {
  Hasher blob;
  for (int64_t at = begin; at < end;) {
    const int64_t size = std::min(kTileBytes, end - at);
    auto tile = absl::MakeSpan(buffer).subspan(0, static_cast<size_t>(size));
    CAIRN_RETURN_IF_ERROR(source.ReadAt(at, tile));
    const absl::string_view bytes(tile.data(), tile.size());
    blob.Update(bytes);
    whole.Update(bytes);
    at += size;
    if (progress) progress(size);
  }
  return blob.Finish();
}

// Where the blobs of a file end.
absl::StatusOr<std::vector<int64_t>> SegmentEnds(const std::string& path,
                                                 const ByteSource& source) {
  if (!absl::EndsWith(path, ".safetensors")) {
    return std::vector<int64_t>{source.size()};
  }
  CAIRN_ASSIGN_OR_RETURN(auto header, SafetensorsHeader::Read(source, path));
  std::vector<int64_t> ends = {header.header_bytes()};
  for (const TensorEntry& tensor : header.tensors()) ends.push_back(tensor.end);
  return ends;
}

absl::Status AddFile(const std::string& path, const SharedSource& source,
                     std::string& buffer, const TransferProgress& progress,
                     ModelFiles& out) {
  CAIRN_ASSIGN_OR_RETURN(std::vector<int64_t> ends, SegmentEnds(path, *source));
  v1::ModelFile file;
  Hasher whole;
  int64_t begin = 0;
  for (int64_t end : ends) {
    CAIRN_ASSIGN_OR_RETURN(
        Digest sha256, HashRange(*source, begin, end, whole, buffer, progress));
    file.add_segments(sha256.hex());
    out.blobs.push_back({.sha256 = sha256,
                         .size_bytes = end - begin,
                         .source = source,
                         .offset = begin});
    begin = end;
  }
  file.mutable_file()->set_path(path);
  file.mutable_file()->set_size_bytes(source->size());
  file.mutable_file()->set_sha256(whole.FinishHex());
  out.size_bytes += source->size();
  out.files.push_back(std::move(file));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& directory,
                                          const TransferProgress& progress) {
  CAIRN_ASSIGN_OR_RETURN(FileMap files, OpenDirectorySources(directory));
  ModelFiles out;
  std::string buffer(static_cast<size_t>(kTileBytes), '\0');
  for (const auto& [path, source] : files) {
    if (!IsTaken(path)) {
      out.left_out.push_back(path);
      continue;
    }
    CAIRN_RETURN_IF_ERROR(AddFile(path, source, buffer, progress, out));
  }
  return out;
}

absl::StatusOr<int64_t> ModelBytes(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(FileMap files, OpenDirectorySources(directory));
  int64_t bytes = 0;
  for (const auto& [path, source] : files) {
    if (IsTaken(path)) bytes += source->size();
  }
  return bytes;
}

}  // namespace cairn
