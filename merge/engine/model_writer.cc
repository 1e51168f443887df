#include "merge/engine/model_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr int64_t kShardBytesMax = 5'000'000'000;
constexpr char kIndexFile[] = "model.safetensors.index.json";

// Tensors in order, a new file whenever one is full.
std::vector<std::vector<TensorSpec>> Pack(
    const std::vector<TensorSpec>& tensors) {
  std::vector<std::vector<TensorSpec>> shards(1);
  int64_t bytes = 0;
  for (const TensorSpec& tensor : tensors) {
    const int64_t size = tensor.size_bytes();
    if (bytes > 0 && bytes + size > kShardBytesMax) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += size;
  }
  return shards;
}

absl::StatusOr<std::unique_ptr<WrittenFile>> OpenWrittenFile(
    const std::string& name, const std::string& path, int64_t bytes,
    bool is_resumed) {
  auto file = std::make_unique<WrittenFile>();
  file->name = name;
  const int flags = O_RDWR | O_CREAT | O_CLOEXEC;
  file->fd = open(path.c_str(), flags | (is_resumed ? 0 : O_TRUNC), 0644);
  if (file->fd < 0) return SystemError(errno, absl::StrCat("create ", path));
  CAIRN_RETURN_IF_ERROR(SetFileSize(file->fd, bytes, path));
  file->direct_fd = OpenDirect(path);
  return file;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelWriter>> ModelWriter::Create(
    const std::string& directory, const std::vector<TensorSpec>& tensors,
    const std::string& key) {
  std::unique_ptr<ModelWriter> writer(new ModelWriter);
  writer->directory_ = directory;
  CAIRN_RETURN_IF_ERROR(MakeDirectory(directory));
  bool is_resumed = false;
  CAIRN_RETURN_IF_ERROR(writer->ReadJournal(key, is_resumed));
  CAIRN_RETURN_IF_ERROR(writer->OpenFiles(Pack(tensors), is_resumed));
  return writer;
}

ModelWriter::~ModelWriter() {
  for (const auto& file : files_) close(file->fd);
  if (journal_ >= 0) close(journal_);
}

absl::Status ModelWriter::ReadJournal(const std::string& key,
                                      bool& is_resumed) {
  const std::string path = absl::StrCat(directory_, "/", kJournalFile);
  const auto text = ReadFile(path);
  if (text.ok()) {
    std::istringstream lines(*text);
    std::string line;
    std::getline(lines, line);
    is_resumed = line == key;
    while (is_resumed && std::getline(lines, line)) {
      // A last line may be torn.
      const auto json = nlohmann::json::parse(line, nullptr, false);
      if (!json.is_object()) continue;
      FinishedTensor& done = finished_[json.value("tensor", "")];
      done.sha256 = json.value("sha256", "");
      done.inputs = json.value("inputs", std::vector<std::string>());
    }
  }
  MutexLock lock(mutex_);
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  journal_ = open(path.c_str(), flags | (is_resumed ? 0 : O_TRUNC), 0644);
  if (journal_ < 0) return SystemError(errno, absl::StrCat("create ", path));
  if (is_resumed) return absl::OkStatus();
  const std::string first = key + "\n";
  if (write(journal_, first.data(), first.size()) < 0) {
    return SystemError(errno, absl::StrCat("write ", path));
  }
  return absl::OkStatus();
}

absl::Status ModelWriter::OpenFiles(
    const std::vector<std::vector<TensorSpec>>& shards, bool is_resumed) {
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        shards.size() == 1 ? std::string("model.safetensors")
                           : absl::StrFormat("model-%05d-of-%05d.safetensors",
                                             i + 1, shards.size());
    CAIRN_ASSIGN_OR_RETURN(const SafetensorsLayout layout,
                           LayOutSafetensors(shards[i], {{"format", "pt"}}));
    const std::string path = absl::StrCat(directory_, "/", name);
    CAIRN_ASSIGN_OR_RETURN(
        files_.emplace_back(),
        OpenWrittenFile(name, path, layout.file_bytes, is_resumed));
    WrittenFile* file = files_.back().get();
    CAIRN_RETURN_IF_ERROR(WriteAt(file->fd, 0, layout.header, path));
    for (const TensorEntry& tensor : layout.tensors) {
      places_[tensor.name] = {.file = file,
                              .begin = tensor.begin,
                              .size = tensor.end - tensor.begin};
      tensor_bytes_ += tensor.end - tensor.begin;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<const FinishedTensor*> ModelWriter::FindFinished(
    const std::string& tensor) {
  const auto found = finished_.find(tensor);
  if (found == finished_.end()) return nullptr;
  const TensorPlace& place = places_.at(tensor);
  Hasher hasher;
  std::vector<char> buffer(
      static_cast<size_t>(std::min<int64_t>(place.size, int64_t{1} << 20)));
  for (int64_t at = 0; at < place.size;) {
    const size_t count = static_cast<size_t>(std::min<int64_t>(
        place.size - at, static_cast<int64_t>(buffer.size())));
    const ssize_t n =
        pread(place.file->fd, buffer.data(), count, place.begin + at);
    if (n <= 0) return nullptr;
    hasher.Update(absl::string_view(buffer.data(), static_cast<size_t>(n)));
    at += n;
  }
  return hasher.Finish().hex() == found->second.sha256 ? &found->second
                                                       : nullptr;
}

absl::Status ModelWriter::FinishTensor(const std::string& tensor,
                                       const FinishedTensor& result) {
  const std::string line =
      nlohmann::json{{"tensor", tensor},
                     {"sha256", result.sha256},
                     {"inputs", result.inputs}}
          .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
      "\n";
  MutexLock lock(mutex_);
  if (write(journal_, line.data(), line.size()) !=
      static_cast<ssize_t>(line.size())) {
    return SystemError(errno, "write the journal of the merge");
  }
  return absl::OkStatus();
}

absl::Status ModelWriter::Finish() && {
  for (const auto& file : files_) {
    if (fsync(file->fd) != 0) return SystemError(errno, "sync " + file->name);
  }
  if (files_.size() > 1) {
    nlohmann::ordered_json index;
    index["metadata"]["total_size"] = tensor_bytes_;
    for (const auto& [name, place] : places_) {
      index["weight_map"][name] = place.file->name;
    }
    CAIRN_RETURN_IF_ERROR(WriteFile(absl::StrCat(directory_, "/", kIndexFile),
                                    index.dump(2) + "\n"));
  }
  std::error_code error;
  std::filesystem::remove(absl::StrCat(directory_, "/", kJournalFile), error);
  if (error) return SystemError(error.value(), "remove the journal");
  return absl::OkStatus();
}

}  // namespace cairn
