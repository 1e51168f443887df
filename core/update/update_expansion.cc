#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/release/file_policy.h"
#include "core/update/checkpoint_delta.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

absl::Status CopyRange(const ByteSource& source, int64_t begin, int64_t end,
                       std::vector<char>& tile, FileAppender& out) {
  for (int64_t offset = begin; offset < end; offset += kTileBytes) {
    auto part = absl::MakeSpan(tile).subspan(
        0, static_cast<size_t>(std::min(kTileBytes, end - offset)));
    CAIRN_RETURN_IF_ERROR(source.ReadAt(offset, part));
    CAIRN_RETURN_IF_ERROR(
        out.Append(absl::string_view(part.data(), part.size())));
  }
  return absl::OkStatus();
}

absl::Status CopyTuned(const SharedSource& source, const TensorEntry& tensor,
                       const Update& update, std::vector<char>& tile,
                       FileAppender& out) {
  const int64_t width = DTypeBits(tensor.dtype) / 8;
  const auto base =
      MakeSliceSource(source, tensor.begin, tensor.end - tensor.begin);
  for (int64_t offset = tensor.begin; offset < tensor.end;
       offset += kTileBytes) {
    auto part = absl::MakeSpan(tile).subspan(
        0, static_cast<size_t>(std::min(kTileBytes, tensor.end - offset)));
    CAIRN_RETURN_IF_ERROR(update.ReadTuned(
        tensor.name, *base, (offset - tensor.begin) / width, part));
    CAIRN_RETURN_IF_ERROR(
        out.Append(absl::string_view(part.data(), part.size())));
  }
  return absl::OkStatus();
}

absl::Status WriteExpanded(const SharedSource& source,
                           const SafetensorsHeader& header,
                           const Update& update, const std::string& path) {
  std::vector<char> tile(kTileBytes);
  const std::string temporary = path + ".tmp";
  CAIRN_ASSIGN_OR_RETURN(FileAppender out, FileAppender::Open(temporary));
  CAIRN_RETURN_IF_ERROR(
      CopyRange(*source, 0, header.header_bytes(), tile, out));
  for (const TensorEntry& tensor : header.tensors()) {
    CAIRN_RETURN_IF_ERROR(
        update.Find(tensor.name) == nullptr
            ? CopyRange(*source, tensor.begin, tensor.end, tile, out)
            : CopyTuned(source, tensor, update, tile, out));
  }
  return std::move(out).Publish(path);
}

absl::Status CopyFile(const ByteSource& source, const std::string& path) {
  std::vector<char> tile(kTileBytes);
  CAIRN_ASSIGN_OR_RETURN(FileAppender out, FileAppender::Open(path + ".tmp"));
  CAIRN_RETURN_IF_ERROR(CopyRange(source, 0, source.size(), tile, out));
  return std::move(out).Publish(path);
}

}  // namespace

absl::Status ExpandUpdate(const Checkpoint& base, const Update& update,
                          const std::string& directory) {
  for (const auto& [name, source] : base.files()) {
    const std::string path = absl::StrCat(directory, "/", name);
    auto header = base.headers().find(name);
    if (header != base.headers().end()) {
      CAIRN_RETURN_IF_ERROR(
          WriteExpanded(source, header->second, update, path));
    } else if (CheckReleaseFile(name).ok() &&
               !absl::EndsWith(name, ".safetensors")) {
      CAIRN_RETURN_IF_ERROR(CopyFile(*source, path));
    }
  }
  return absl::OkStatus();
}

}  // namespace cairn
