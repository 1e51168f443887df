#include "core/release/release_verifier.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/release/release_digest.h"
#include "core/release/release_document.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/tensor_manifest.h"

namespace cairn {
namespace {

constexpr int64_t kDocumentBytesMax = 64 << 20;
constexpr int64_t kTileBytes = 1 << 20;

absl::Status Damaged(absl::string_view file, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                       absl::StrCat(file, ": ", what),
                       {{"file", std::string(file)}});
}

// What is wrong with bytes on a disk is data loss, whatever the reader of
// uploads calls it.
absl::Status AsDamage(const absl::Status& status) {
  absl::Status out(absl::StatusCode::kDataLoss, status.message());
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& value) {
    out.SetPayload(url, value);
  });
  return out;
}

absl::StatusOr<std::string> ReadDocument(const std::string& directory) {
  if (!std::filesystem::is_directory(directory)) {
    return absl::NotFoundError(absl::StrCat(directory, " is not a directory"));
  }
  auto source =
      OpenFileSource(absl::StrCat(directory, "/", kReleaseDocumentFile));
  if (absl::IsNotFound(source.status())) {
    return absl::NotFoundError(
        absl::StrCat(directory, " has no ", kReleaseDocumentFile,
                     ": it is not a pulled release, or the pull was cut"));
  }
  if (!source.ok()) return source.status();
  auto text = ReadAll(**source, kDocumentBytesMax);
  if (!text.ok()) {
    return AsDamage(Annotate(text.status(), kReleaseDocumentFile));
  }
  return text;
}

// Everything in the directory that is not itself a directory.
absl::StatusOr<std::set<std::string>> ListFiles(const std::string& directory) {
  std::set<std::string> names;
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(directory, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    if (entry->is_directory(error) && !entry->is_symlink(error)) continue;
    names.insert(entry->path().lexically_relative(directory).generic_string());
  }
  if (error) {
    return absl::DataLossError(absl::StrCat("cannot read directory ", directory,
                                            ": ", error.message()));
  }
  return names;
}

absl::Status CheckNames(const std::set<std::string>& found,
                        const v1::ReleaseManifest& manifest) {
  std::set<std::string> wanted = {kReleaseDocumentFile};
  for (const v1::File& file : manifest.files()) {
    if (!CheckRelativePath(file.path()).ok()) {
      return Damaged(kReleaseDocumentFile,
                     absl::StrCat("names the file ", JsonQuote(file.path())));
    }
    wanted.insert(file.path());
    if (!found.contains(file.path())) {
      return Damaged(file.path(), "is missing");
    }
  }
  for (const std::string& name : found) {
    if (!wanted.contains(name)) {
      return Damaged(name, "is not part of the release");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFile(const std::string& directory, const v1::File& file) {
  auto source = OpenFileSource(absl::StrCat(directory, "/", file.path()));
  if (!source.ok()) return AsDamage(source.status());
  if ((*source)->size() != file.size_bytes()) {
    return Damaged(file.path(),
                   absl::StrCat("has ", (*source)->size(),
                                " bytes; the release has ", file.size_bytes()));
  }
  Hasher hasher;
  std::vector<char> tile(
      static_cast<size_t>(std::min(kTileBytes, file.size_bytes())));
  for (int64_t offset = 0; offset < file.size_bytes(); offset += kTileBytes) {
    auto part = absl::MakeSpan(tile).subspan(
        0,
        static_cast<size_t>(std::min(kTileBytes, file.size_bytes() - offset)));
    CAIRN_RETURN_IF_ERROR((*source)->ReadAt(offset, part));
    hasher.Update(absl::string_view(part.data(), part.size()));
  }
  const std::string found = hasher.Finish().hex();
  if (found != file.sha256()) {
    return Damaged(file.path(),
                   absl::StrCat("has SHA-256 ", found, "; the release has ",
                                file.sha256()));
  }
  return absl::OkStatus();
}

absl::Status CheckFiles(const std::string& directory,
                        const v1::ReleaseManifest& manifest, int threads) {
  // Largest first, so that no thread is left with a large one at the end.
  std::vector<const v1::File*> order;
  for (const v1::File& file : manifest.files()) order.push_back(&file);
  std::stable_sort(order.begin(), order.end(),
                   [](const v1::File* a, const v1::File* b) {
                     return a->size_bytes() > b->size_bytes();
                   });
  std::vector<absl::Status> results(order.size());
  std::atomic<size_t> next = 0;
  auto work = [&] {
    for (size_t i = next++; i < results.size(); i = next++) {
      results[i] = CheckFile(directory, *order[i]);
    }
  };
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  }
  for (const absl::Status& result : results) CAIRN_RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

absl::Status CheckDigest(const std::string& directory,
                         const v1::ReleaseManifest& manifest, int threads) {
  auto checkpoint = Checkpoint::OpenDirectory(directory);
  if (!checkpoint.ok()) return AsDamage(checkpoint.status());
  auto tensors = MakeTensorManifest(*checkpoint, threads);
  if (!tensors.ok()) return AsDamage(tensors.status());
  const std::string found = ReleaseDigest(*tensors, manifest.files());
  if (found == manifest.digest()) return absl::OkStatus();
  return Damaged(directory,
                 absl::StrCat("the tensors, config and tokenizer "
                              "have the digest ",
                              found, "; the release has ", manifest.digest()));
}

}  // namespace

absl::StatusOr<v1::ReleaseManifest> VerifyDirectory(
    const std::string& directory, const VerifyOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadDocument(directory));
  CAIRN_ASSIGN_OR_RETURN(v1::ReleaseManifest manifest,
                         VerifyReleaseDocument(text, options.root_fingerprint));
  CAIRN_ASSIGN_OR_RETURN(auto found, ListFiles(directory));
  CAIRN_RETURN_IF_ERROR(CheckNames(found, manifest));
  CAIRN_RETURN_IF_ERROR(CheckFiles(directory, manifest, options.threads));
  if (options.depth == VerifyDepth::kTensors) {
    CAIRN_RETURN_IF_ERROR(CheckDigest(directory, manifest, options.threads));
  }
  return manifest;
}

}  // namespace cairn
