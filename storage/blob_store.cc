#include "storage/blob_store.h"

#include "absl/strings/ascii.h"

namespace cairn {

bool IsUploadId(absl::string_view text) {
  if (text.empty() || text.size() > 64) return false;
  for (char c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-') {
      return false;
    }
  }
  return true;
}

}  // namespace cairn
