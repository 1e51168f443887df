#include "server/release/checkpoint_import.h"

#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/tensor/checkpoint.h"
#include "server/release/file_assembly.h"
#include "server/release/file_intake.h"

namespace cairn {
namespace {

using store::v1::FileSegments;
using SegmentMap = std::map<std::string, FileSegments>;

absl::Status Malformed(absl::string_view path, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                       absl::StrCat(path, ": ", what),
                       {{"file", std::string(path)}});
}

bool IsSafetensors(absl::string_view path) {
  return absl::EndsWith(path, ".safetensors");
}

absl::Status CheckPath(const v1::ModelFile& file) {
  const std::string& path = file.file().path();
  if (path == kReleaseDocumentFile) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "FORBIDDEN_FILE",
        absl::StrCat(path, " is written by the hub; leave it out"),
        {{"file", path}});
  }
  CAIRN_RETURN_IF_ERROR(CheckRelativePath(path));
  CAIRN_RETURN_IF_ERROR(CheckReleaseFile(path));
  if (file.segments().empty()) {
    return Malformed(path,
                     "has no segments; name the blobs that are its bytes");
  }
  if (!IsSafetensors(path) && file.segments_size() != 1) {
    return Malformed(path, absl::StrCat("has ", file.segments_size(),
                                        " segments; a file that is not "
                                        "safetensors is one blob"));
  }
  return absl::OkStatus();
}

// The stored blobs of a file with their sizes, which must add up.
absl::StatusOr<FileSegments> StatSegments(const BlobStore& blobs,
                                          const v1::ModelFile& file) {
  FileSegments out;
  out.set_path(file.file().path());
  int64_t total = 0;
  for (const std::string& sha256 : file.segments()) {
    auto digest = Digest::Parse(sha256);
    if (!digest.ok()) {
      return Malformed(out.path(),
                       absl::StrCat("segment '", sha256, "' is not a SHA-256"));
    }
    auto stat = blobs.Stat(*digest);
    if (absl::IsNotFound(stat.status())) {
      return absl::FailedPreconditionError(
          absl::StrCat(out.path(), ": blob ", digest->hex(),
                       " is not here; upload it first"));
    }
    CAIRN_RETURN_IF_ERROR(stat);
    auto& segment = *out.add_segments();
    segment.set_sha256(digest->hex());
    segment.set_size_bytes(stat->size_bytes);
    total += stat->size_bytes;
  }
  if (total != file.file().size_bytes()) {
    return Malformed(out.path(),
                     absl::StrCat("size_bytes is ", file.file().size_bytes(),
                                  ", its segments have ", total));
  }
  return out;
}

absl::StatusOr<SegmentMap> StatFiles(
    const BlobStore& blobs,
    const google::protobuf::RepeatedPtrField<v1::ModelFile>& files) {
  if (files.size() > kModelFilesMax) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                         absl::StrCat("files has ", files.size(),
                                      " entries; at most ", kModelFilesMax));
  }
  SegmentMap out;
  for (const v1::ModelFile& file : files) {
    CAIRN_RETURN_IF_ERROR(CheckPath(file));
    CAIRN_ASSIGN_OR_RETURN(FileSegments segments, StatSegments(blobs, file));
    if (!out.emplace(file.file().path(), std::move(segments)).second) {
      return Malformed(file.file().path(), "is listed twice");
    }
  }
  return out;
}

// A checkpoint that may become a release, by its headers and config.
absl::StatusOr<Checkpoint> OpenPublishable(FileMap sources) {
  std::vector<std::string> paths;
  for (const auto& [path, source] : sources) paths.push_back(path);
  auto checkpoint = Checkpoint::Open(std::move(sources));
  if (absl::IsNotFound(checkpoint.status())) {
    return Malformed("model.safetensors",
                     "is missing: a checkpoint has it, or shards and "
                     "model.safetensors.index.json");
  }
  CAIRN_RETURN_IF_ERROR(checkpoint);
  if (checkpoint->config_json().empty()) {
    return Malformed("config.json", "is missing or empty");
  }
  CAIRN_RETURN_IF_ERROR(CheckConfig(checkpoint->config_json(), "config.json"));
  for (const std::string& path : paths) {
    if (IsSafetensors(path) && !checkpoint->headers().contains(path)) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "FORBIDDEN_FILE",
          absl::StrCat(path,
                       " is not part of the checkpoint: no index names it"),
          {{"file", path}});
    }
  }
  return checkpoint;
}

absl::StatusOr<Checkpoint> OpenCheckpoint(const BlobStore& blobs,
                                          const SegmentMap& segments) {
  FileMap sources;
  for (const auto& [path, file] : segments) {
    CAIRN_ASSIGN_OR_RETURN(sources[path], OpenAssembled(blobs, file));
  }
  return OpenPublishable(std::move(sources));
}

// Tensor names with the digest of the segment that is their bytes.
absl::StatusOr<std::map<std::string, std::string>> TensorDigests(
    const Checkpoint& checkpoint, const SegmentMap& segments) {
  std::map<std::string, std::string> out;
  for (const auto& [path, header] : checkpoint.headers()) {
    const FileSegments& file = segments.at(path);
    size_t wanted = header.tensors().size() + 1;
    if (static_cast<size_t>(file.segments_size()) != wanted) {
      return Malformed(path, absl::StrCat("has ", file.segments_size(),
                                          " segments; its header and one a "
                                          "tensor are ",
                                          wanted));
    }
    if (file.segments(0).size_bytes() != header.header_bytes()) {
      return Malformed(
          path,
          absl::StrCat("the first segment has ", file.segments(0).size_bytes(),
                       " bytes; the header has ", header.header_bytes()));
    }
    for (size_t i = 0; i + 1 < wanted; ++i) {
      const TensorEntry& tensor = header.tensors()[i];
      const auto& segment = file.segments(static_cast<int>(i) + 1);
      if (segment.size_bytes() != tensor.end - tensor.begin) {
        return Malformed(
            path, absl::StrCat("segment ", i + 1, " has ", segment.size_bytes(),
                               " bytes; tensor '", tensor.name, "' has ",
                               tensor.end - tensor.begin));
      }
      out[tensor.name] = segment.sha256();
    }
  }
  return out;
}

v1::TensorManifest DescribeTensors(
    const Checkpoint& checkpoint,
    const std::map<std::string, std::string>& digests) {
  v1::TensorManifest out;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    v1::Tensor& described = *out.add_tensors();
    described.set_name(tensor.name);
    described.set_dtype(std::string(DTypeName(tensor.dtype)));
    for (int64_t dimension : tensor.shape) described.add_shape(dimension);
    described.set_sha256(digests.at(tensor.name));
    described.set_size_bytes(tensor.end - tensor.begin);
    described.set_file(tensor.file);
    described.set_file_offset(tensor.begin);
  }
  return out;
}

// What is stored, as it will be published.
absl::StatusOr<CheckpointFiles> Assemble(const BlobStore& blobs,
                                         SegmentMap segments,
                                         std::vector<v1::File> described) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                         OpenCheckpoint(blobs, segments));
  CAIRN_ASSIGN_OR_RETURN(auto digests, TensorDigests(checkpoint, segments));
  CheckpointFiles out;
  out.tensors = DescribeTensors(checkpoint, digests);
  out.files = std::move(described);
  for (auto& [path, file] : segments) out.segments.push_back(std::move(file));
  return out;
}

// Where the blobs of a file end: a safetensors file is its header and one blob
// a tensor, any other file one blob.
std::vector<int64_t> BlobEnds(const Checkpoint& checkpoint,
                              const std::string& path,
                              const ByteSource& source) {
  auto header = checkpoint.headers().find(path);
  if (header == checkpoint.headers().end()) return {source.size()};
  std::vector<int64_t> ends = {header->second.header_bytes()};
  for (const TensorEntry& tensor : header->second.tensors()) {
    ends.push_back(tensor.end);
  }
  return ends;
}

FileSegments SegmentsOf(const IntakeFile& file) {
  FileSegments out;
  out.set_path(file.path);
  int64_t begin = 0;
  for (size_t i = 0; i < file.ends.size(); ++i) {
    auto& segment = *out.add_segments();
    segment.set_sha256(file.blobs[i].hex());
    segment.set_size_bytes(file.ends[i] - begin);
    begin = file.ends[i];
  }
  return out;
}

// Stored segments as a file whose digests are to be found.
absl::StatusOr<IntakeFile> StoredFile(const FileSegments& segments) {
  IntakeFile file{.path = segments.path()};
  int64_t end = 0;
  for (const auto& segment : segments.segments()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(segment.sha256()));
    file.blobs.push_back(digest);
    file.ends.push_back(end += segment.size_bytes());
  }
  return file;
}

absl::StatusOr<std::vector<IntakeFile>> TakeIn(BlobStore& blobs,
                                               std::vector<IntakeFile> files) {
  FileIntake intake(blobs, std::move(files));
  CAIRN_RETURN_IF_ERROR(intake.Run());
  return std::move(intake).Take();
}

}  // namespace

absl::StatusOr<CheckpointFiles> ImportCheckpoint(
    BlobStore& blobs,
    const google::protobuf::RepeatedPtrField<v1::ModelFile>& files) {
  CAIRN_ASSIGN_OR_RETURN(SegmentMap segments, StatFiles(blobs, files));
  // Headers first: what is malformed is refused before it is read.
  CAIRN_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                         OpenCheckpoint(blobs, segments));
  CAIRN_RETURN_IF_ERROR(TensorDigests(checkpoint, segments));
  std::map<std::string, std::string> declared;
  for (const v1::ModelFile& file : files) {
    declared[file.file().path()] = file.file().sha256();
  }
  std::vector<IntakeFile> stored;
  for (const auto& [path, file] : segments) {
    CAIRN_ASSIGN_OR_RETURN(IntakeFile one, StoredFile(file));
    stored.push_back(std::move(one));
  }
  CAIRN_ASSIGN_OR_RETURN(stored, TakeIn(blobs, std::move(stored)));
  std::vector<v1::File> described;
  for (IntakeFile& file : stored) {
    if (file.described.sha256() != declared.at(file.path)) {
      return Malformed(
          file.path,
          absl::StrCat("sha256 is '", declared.at(file.path),
                       "', the uploaded bytes have ", file.described.sha256()));
    }
    described.push_back(std::move(file.described));
  }
  return Assemble(blobs, std::move(segments), std::move(described));
}

absl::StatusOr<CheckpointFiles> ImportSources(BlobStore& blobs,
                                              const FileMap& files) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenPublishable(files));
  std::vector<IntakeFile> taken;
  for (const auto& [path, source] : files) {
    taken.push_back({.path = path,
                     .source = source,
                     .ends = BlobEnds(checkpoint, path, *source)});
  }
  CAIRN_ASSIGN_OR_RETURN(taken, TakeIn(blobs, std::move(taken)));
  SegmentMap segments;
  std::vector<v1::File> described;
  for (IntakeFile& file : taken) {
    segments[file.path] = SegmentsOf(file);
    described.push_back(std::move(file.described));
  }
  return Assemble(blobs, std::move(segments), std::move(described));
}

}  // namespace cairn
