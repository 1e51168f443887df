#include "client/credentials.h"

#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr int kSecretMode = 0600;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

absl::StatusOr<HomeSettings> ParseSettings(const std::string& text,
                                           const std::string& path) {
  HomeSettings settings;
  try {
    for (const auto& entry : YAML::Load(text)) {
      const auto key = entry.first.as<std::string>();
      const auto value = entry.second.as<std::string>();
      if (key == "hub") {
        settings.hub = value;
      } else if (key == "identity") {
        settings.identity = value;
      } else if (key == "root_fingerprint") {
        settings.root_fingerprint = value;
      } else {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": unknown key `", key,
                         "`; known are hub, identity, root_fingerprint"));
      }
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
  return settings;
}

absl::StatusOr<std::string> ReadTokenFile(const std::string& path) {
  auto text = ReadFile(path, 16 << 10);
  if (!text.ok()) return Annotate(text.status(), "the token");
  const std::string token(absl::StripAsciiWhitespace(*text));
  if (token.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " is empty; it must hold what `cairn admin token create` gave"));
  }
  return token;
}

}  // namespace

std::string Home::DefaultPath() {
  if (std::string home = Environment("CAIRN_HOME"); !home.empty()) return home;
  return absl::StrCat(Environment("HOME"), "/.config/cairn");
}

std::string Home::File(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

absl::Status Home::Prepare() const {
  CAIRN_RETURN_IF_ERROR(MakeDirectory(path_, 0700));
  if (chmod(path_.c_str(), 0700) != 0) {
    return SystemError(errno, absl::StrCat("change the mode of ", path_));
  }
  return absl::OkStatus();
}

absl::StatusOr<HomeSettings> Home::ReadSettings() const {
  const std::string path = File("config.yaml");
  auto text = ReadFile(path, 1 << 20);
  if (absl::IsNotFound(text.status())) return HomeSettings();
  CAIRN_RETURN_IF_ERROR(text.status());
  return ParseSettings(*text, path);
}

absl::Status Home::WriteSettings(const HomeSettings& settings) const {
  YAML::Emitter out;
  out << YAML::BeginMap;
  auto put = [&out](const char* key, const std::string& value) {
    if (!value.empty()) out << YAML::Key << key << YAML::Value << value;
  };
  put("hub", settings.hub);
  put("identity", settings.identity);
  put("root_fingerprint", settings.root_fingerprint);
  out << YAML::EndMap;
  return WriteFile(File("config.yaml"), absl::StrCat(out.c_str(), "\n"),
                   kSecretMode);
}

absl::StatusOr<std::string> Home::ReadCa() const {
  auto pem = ReadFile(File("ca.pem"), 1 << 20);
  if (absl::IsNotFound(pem.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_,
                     " has no ca.pem; set it up with `cairn init --hub "
                     "HOST:PORT --ca FILE`"));
  }
  return pem;
}

absl::Status Home::WriteCa(absl::string_view pem) const {
  return WriteFile(File("ca.pem"), pem);
}

absl::StatusOr<std::optional<SigningKey>> Home::ReadKey() const {
  auto seed = ReadFile(File("key"), 1 << 10);
  if (absl::IsNotFound(seed.status())) return std::nullopt;
  CAIRN_RETURN_IF_ERROR(seed.status());
  auto key = SigningKey::FromSeedHex(absl::StripAsciiWhitespace(*seed));
  if (!key.ok()) return Annotate(key.status(), File("key"));
  return *std::move(key);
}

absl::StatusOr<SigningKey> Home::ReadOrMakeKey() const {
  CAIRN_ASSIGN_OR_RETURN(auto existing, ReadKey());
  if (existing.has_value()) return *std::move(existing);
  SigningKey key = SigningKey::Generate();
  CAIRN_RETURN_IF_ERROR(
      WriteFile(File("key"), absl::StrCat(key.seed_hex(), "\n"), kSecretMode));
  return key;
}

absl::StatusOr<std::string> Home::ReadToken(
    const std::string& token_file) const {
  if (!token_file.empty()) return ReadTokenFile(token_file);
  if (std::string file = Environment("CAIRN_TOKEN_FILE"); !file.empty()) {
    return ReadTokenFile(file);
  }
  if (std::string token = Environment("CAIRN_TOKEN"); !token.empty()) {
    return token;
  }
  auto token = ReadTokenFile(File("token"));
  if (absl::IsNotFound(token.status())) return "";
  return token;
}

absl::Status Home::RememberReview(const std::string& contribution,
                                  const SeenReview& seen) const {
  CAIRN_ASSIGN_OR_RETURN(std::string folder, Folder("state"));
  return WriteFile(
      absl::StrCat(folder, "/review-", Digest::Of(contribution).hex()),
      absl::StrCat(seen.etag, "\n", seen.digest, "\n",
                   absl::StrJoin(seen.report_ids, "\n")),
      kSecretMode);
}

absl::StatusOr<std::optional<SeenReview>> Home::RecallReview(
    const std::string& contribution) const {
  auto text = ReadFile(
      File(absl::StrCat("state/review-", Digest::Of(contribution).hex())),
      1 << 20);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  CAIRN_RETURN_IF_ERROR(text.status());
  std::vector<std::string> lines = absl::StrSplit(*text, '\n');
  if (lines.size() < 2) return std::nullopt;
  SeenReview seen{.etag = lines[0], .digest = lines[1], .report_ids = {}};
  for (size_t i = 2; i < lines.size(); ++i) {
    if (!lines[i].empty()) seen.report_ids.push_back(lines[i]);
  }
  return seen;
}

absl::StatusOr<std::string> Home::Folder(const std::string& name) const {
  CAIRN_RETURN_IF_ERROR(MakeDirectory(path_, 0700));
  const std::string folder = File(name);
  CAIRN_RETURN_IF_ERROR(MakeDirectory(folder, 0700));
  return folder;
}

}  // namespace cairn
