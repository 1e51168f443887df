#include "client/cli/release_diff.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "client/base_finder.h"
#include "client/cli/output.h"
#include "client/names.h"
#include "client/tensor_changes.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using nlohmann::ordered_json;

struct DiffOptions {
  std::string before;
  std::string after;
};

// Everything that differs between two releases.
struct Difference {
  v1::Release before;
  v1::Release after;
  std::vector<TensorChange> tensors;
  std::vector<std::string> files;
  std::vector<std::string> gained;
  std::vector<std::string> lost;
};

absl::string_view KindName(TensorChange::Kind kind) {
  switch (kind) {
    case TensorChange::Kind::kAdded:
      return "added";
    case TensorChange::Kind::kRemoved:
      return "removed";
    case TensorChange::Kind::kChanged:
      break;
  }
  return "changed";
}

int64_t Bytes(const std::vector<TensorChange>& changes) {
  int64_t bytes = 0;
  for (const TensorChange& change : changes) bytes += change.size_bytes;
  return bytes;
}

// Members of `a` that `b` lacks.
template <typename Names>
std::vector<std::string> Without(const Names& a, const Names& b) {
  std::set<std::string> other(b.begin(), b.end());
  std::vector<std::string> out;
  for (const std::string& name : a) {
    if (!other.contains(name)) out.push_back(name);
  }
  return out;
}

std::vector<std::string> ChangedFiles(const v1::Release& a,
                                      const v1::Release& b) {
  std::map<std::string, std::string> left;
  for (const v1::File& file : a.files()) left[file.path()] = file.sha256();
  std::vector<std::string> out;
  for (const v1::File& file : b.files()) {
    auto found = left.find(file.path());
    if (found == left.end() || found->second != file.sha256()) {
      out.push_back(file.path());
    }
    if (found != left.end()) left.erase(found);
  }
  for (const auto& [path, sha256] : left) out.push_back(path);
  return out;
}

absl::StatusOr<Difference> Compare(HubChannel& hub,
                                   const DiffOptions& options) {
  Difference out;
  CAIRN_ASSIGN_OR_RETURN(ReleaseRef before, ParseReleaseRef(options.before));
  CAIRN_ASSIGN_OR_RETURN(ReleaseRef after, ParseReleaseRef(options.after));
  CAIRN_ASSIGN_OR_RETURN(out.before, GetRelease(hub, before.name()));
  CAIRN_ASSIGN_OR_RETURN(out.after, GetRelease(hub, after.name()));
  CAIRN_ASSIGN_OR_RETURN(auto left, FetchTensorManifest(hub, out.before));
  CAIRN_ASSIGN_OR_RETURN(auto right, FetchTensorManifest(hub, out.after));
  out.tensors = CompareTensors(left, right);
  out.files = ChangedFiles(out.before, out.after);
  out.gained = Without(out.after.contributions(), out.before.contributions());
  out.lost = Without(out.before.contributions(), out.after.contributions());
  return out;
}

std::string DifferenceJson(const Difference& d) {
  ordered_json json;
  json["before"] = d.before.name();
  json["after"] = d.after.name();
  json["changedTensors"] = d.tensors.size();
  json["changedBytes"] = absl::StrCat(Bytes(d.tensors));
  json["tensors"] = ordered_json::array();
  for (const TensorChange& change : d.tensors) {
    json["tensors"].push_back({{"name", change.name},
                               {"change", std::string(KindName(change.kind))},
                               {"sizeBytes", absl::StrCat(change.size_bytes)}});
  }
  json["files"] = d.files;
  json["contributionsAdded"] = d.gained;
  json["contributionsRemoved"] = d.lost;
  return json.dump(1);
}

std::string DescribeDifference(const Difference& d) {
  Table table({"TENSOR", "CHANGE", "SIZE"});
  for (const TensorChange& change : d.tensors) {
    table.Add({change.name, std::string(KindName(change.kind)),
               FormatBytes(change.size_bytes)});
  }
  std::string out = absl::StrCat(d.before.version(), " -> ", d.after.version(),
                                 ": ", d.tensors.size(), " tensors differ, ",
                                 FormatBytes(Bytes(d.tensors)), "\n");
  for (const std::string& name : d.gained) {
    absl::StrAppend(&out, "+ ", name, "\n");
  }
  for (const std::string& name : d.lost) {
    absl::StrAppend(&out, "- ", name, "\n");
  }
  if (!d.tensors.empty()) absl::StrAppend(&out, table.Render());
  return out;
}

absl::Status DiffReleases(Session& session, const DiffOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(Difference difference, Compare(*hub, options));
  session.Print(session.flags().json ? DifferenceJson(difference)
                                     : DescribeDifference(difference));
  return absl::OkStatus();
}

}  // namespace

void AddReleaseDiff(CommandLine& release) {
  release.Add<DiffOptions>(
      "diff", "List the tensors in which two releases differ",
      "cairn release diff tiny-llama@v1.0.0 tiny-llama@latest",
      [](Parameters& p, DiffOptions& o) {
        p.Argument("BEFORE", o.before, "MODEL@REF");
        p.Argument("AFTER", o.after, "MODEL@REF");
      },
      DiffReleases);
}

}  // namespace cairn::cli
