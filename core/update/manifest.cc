#include "core/update/manifest.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/update.h"
#include "core/update/update_statistics.h"

namespace cairn {
namespace {

constexpr size_t kManifestBytesMax = 1 << 20;
constexpr size_t kTitleBytesMax = 200;
constexpr size_t kLicenseBytesMax = 64;
constexpr int kClaimsMax = 100;
constexpr size_t kTileBytes = 1 << 20;

absl::Status Refuse(absl::string_view reason, absl::string_view field,
                    absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason,
                       absl::StrCat("manifest: ", field, " ", what),
                       {{"field", std::string(field)}});
}

bool IsPrefixedDigest(const std::string& text) {
  return absl::StartsWith(text, "sha256:") && Digest::Parse(text).ok();
}

bool IsBareDigest(const std::string& text) {
  return text.size() == 64 && Digest::Parse(text).ok();
}

absl::Status CheckFiles(const v1::ContributionManifest& manifest) {
  if (manifest.files().empty()) {
    return Refuse("MALFORMED_FILE", "files", "is empty; an update has files");
  }
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::File& file = manifest.files(i);
    const std::string field = absl::StrCat("files[", i, "]");
    if (!IsUpdateFile(file.path())) {
      return Refuse(
          "FORBIDDEN_FILE", field,
          absl::StrCat("is ", JsonQuote(file.path().substr(0, 200)),
                       "; an update has ", kAdapterConfigFile, " and ",
                       kAdapterWeightsFile, ", or ", kUpdateFile,
                       ", and may have ", kMaskFile, " or ", kStatisticsFile));
    }
    if (i > 0 && manifest.files(i - 1).path() >= file.path()) {
      return Refuse("MALFORMED_FILE", field,
                    "is out of order or there twice; files are sorted by path");
    }
    if (file.size_bytes() < 0) {
      return Refuse("MALFORMED_FILE", absl::StrCat(field, ".size_bytes"),
                    absl::StrCat("is ", file.size_bytes()));
    }
    if (!IsBareDigest(file.sha256())) {
      return Refuse("MALFORMED_FILE", absl::StrCat(field, ".sha256"),
                    "must be 64 lower-case hex digits");
    }
  }
  const std::string digest = UpdateDigest(
      std::vector<v1::File>(manifest.files().begin(), manifest.files().end()));
  if (manifest.update_digest() != digest) {
    return Refuse("MALFORMED_FILE", "update_digest",
                  absl::StrCat("is ", JsonQuote(manifest.update_digest()),
                               "; its files give ", digest));
  }
  return absl::OkStatus();
}

absl::Status CheckTexts(const v1::ContributionManifest& manifest) {
  for (const auto& [field, text, most] :
       {std::tuple("title", &manifest.title(), kTitleBytesMax),
        std::tuple("license", &manifest.license(), kLicenseBytesMax)}) {
    if (text->size() > most) {
      return Refuse("LIMIT_EXCEEDED", field,
                    absl::StrCat("has ", text->size(), " bytes; at most ", most,
                                 " are allowed"));
    }
    if (std::any_of(text->begin(), text->end(), [](char c) {
          return static_cast<uint8_t>(c) < 0x20 || c == 0x7f;
        })) {
      return Refuse("MALFORMED_FILE", field,
                    "has control characters; it is one line of text");
    }
  }
  if (manifest.claims_size() > kClaimsMax) {
    return Refuse(
        "LIMIT_EXCEEDED", "claims",
        absl::StrCat("has ", manifest.claims_size(), " entries; at most ",
                     kClaimsMax, " are allowed"));
  }
  for (int i = 0; i < manifest.claims_size(); ++i) {
    const std::string& claim = manifest.claims(i);
    if (claim.empty() || std::count(manifest.claims().begin(),
                                    manifest.claims().end(), claim) > 1) {
      return Refuse("MALFORMED_FILE", absl::StrCat("claims[", i, "]"),
                    "is empty or there twice; a claim is a suite's short name");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> FileSha256(const ByteSource& source) {
  Hasher hasher;
  std::vector<char> tile(
      static_cast<size_t>(std::min<int64_t>(kTileBytes, source.size())));
  for (int64_t offset = 0; offset < source.size();
       offset += static_cast<int64_t>(kTileBytes)) {
    auto part = absl::MakeSpan(tile).subspan(
        0, static_cast<size_t>(
               std::min<int64_t>(kTileBytes, source.size() - offset)));
    CAIRN_RETURN_IF_ERROR(source.ReadAt(offset, part));
    hasher.Update(absl::string_view(part.data(), part.size()));
  }
  return hasher.Finish().hex();
}

absl::StatusOr<std::vector<v1::File>> DescribeUpdateFiles(
    const FileMap& files) {
  std::vector<v1::File> out;
  for (const auto& [path, source] : files) {
    if (!IsUpdateFile(path)) continue;
    auto sha256 = FileSha256(*source);
    if (!sha256.ok()) return Annotate(sha256.status(), path);
    v1::File file;
    file.set_path(path);
    file.set_size_bytes(source->size());
    file.set_sha256(*std::move(sha256));
    out.push_back(std::move(file));
  }
  return out;
}

std::string UpdateDigest(absl::Span<const v1::File> files) {
  std::vector<const v1::File*> sorted;
  for (const v1::File& file : files) sorted.push_back(&file);
  std::sort(sorted.begin(), sorted.end(),
            [](auto* a, auto* b) { return a->path() < b->path(); });
  Hasher hasher;
  for (const v1::File* file : sorted) {
    hasher.Update(absl::StrCat("file ", JsonQuote(file->path()), " ",
                               file->size_bytes(), " ", file->sha256(), "\n"));
  }
  return hasher.Finish().prefixed();
}

SignedManifest SignManifest(v1::ContributionManifest manifest,
                            const SigningKey& key) {
  manifest.set_author_key(key.public_hex());
  manifest.set_update_digest(UpdateDigest(
      std::vector<v1::File>(manifest.files().begin(), manifest.files().end())));
  SignedManifest out;
  {
    // Maps in a fixed order, so that a repeated push signs the same bytes.
    google::protobuf::io::StringOutputStream stream(&out.bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    manifest.SerializeToCodedStream(&coded);
  }
  out.signature = key.Sign(kManifestDomain, out.bytes);
  return out;
}

absl::StatusOr<v1::ContributionManifest> ParseManifest(
    absl::string_view bytes) {
  if (bytes.size() > kManifestBytesMax) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
        absl::StrCat("the manifest has ", bytes.size(), " bytes; at most ",
                     kManifestBytesMax, " are allowed"));
  }
  v1::ContributionManifest manifest;
  if (!manifest.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                         "the manifest is not a ContributionManifest message");
  }
  if (!absl::StartsWith(manifest.model(), "models/")) {
    return Refuse(
        "MALFORMED_FILE", "model",
        absl::StrCat("is ", JsonQuote(manifest.model().substr(0, 200)),
                     "; it must be models/NAME"));
  }
  if (!absl::StartsWith(manifest.base_release(),
                        absl::StrCat(manifest.model(), "/releases/"))) {
    return Refuse(
        "MALFORMED_FILE", "base_release",
        absl::StrCat("is ", JsonQuote(manifest.base_release().substr(0, 200)),
                     "; it must be ", manifest.model(), "/releases/VERSION"));
  }
  if (!IsPrefixedDigest(manifest.base_digest())) {
    return Refuse("MALFORMED_FILE", "base_digest",
                  "must be \"sha256:\" and 64 lower-case hex digits");
  }
  if (!manifest.author_key().empty() && !IsBareDigest(manifest.author_key())) {
    return Refuse("MALFORMED_FILE", "author_key",
                  "must be 64 lower-case hex digits, or empty");
  }
  if (!v1::Encoding::Kind_IsValid(manifest.encoding()) ||
      manifest.encoding() == v1::Encoding::ENCODING_UNSPECIFIED) {
    return Refuse("UNKNOWN_FORMAT", "encoding",
                  absl::StrCat("is ", static_cast<int>(manifest.encoding()),
                               "; it must be the number of an encoding"));
  }
  CAIRN_RETURN_IF_ERROR(CheckTexts(manifest));
  CAIRN_RETURN_IF_ERROR(CheckFiles(manifest));
  return manifest;
}

absl::Status VerifyManifest(const v1::ContributionManifest& manifest,
                            absl::string_view bytes,
                            absl::string_view signature) {
  auto verified =
      VerifySignature(manifest.author_key(), kManifestDomain, bytes, signature);
  return Annotate(verified, "manifest");
}

}  // namespace cairn
