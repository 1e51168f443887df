#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "cairn/v1/release.grpc.pb.h"
#include "cairn/v1/tag.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/names.h"
#include "client/tensor_changes.h"
#include "core/base/status_macros.h"
#include "core/tensor/tensor_manifest.h"

namespace cairn::cli {
namespace {

using nlohmann::ordered_json;

struct LogOptions {
  std::string model;
  bool graph = false;
};

struct BlameOptions {
  std::string model;
  std::string tensor;
};

// A release beside its parent and the tags that name it.
struct Entry {
  v1::Release release;
  std::vector<std::string> added;
  std::vector<std::string> removed;
  std::vector<std::string> tags;
};

// Everything that `log` tells, newest first.
struct History {
  std::vector<Entry> entries;
  std::map<std::string, v1::Contribution> contributions;
};

void FillInChanges(std::vector<Entry>& entries) {
  std::map<std::string, const v1::Release*> by_name;
  for (const Entry& entry : entries) {
    by_name[entry.release.name()] = &entry.release;
  }
  for (Entry& entry : entries) {
    std::set<std::string> parent;
    if (auto found = by_name.find(entry.release.parent());
        found != by_name.end()) {
      parent.insert(found->second->contributions().begin(),
                    found->second->contributions().end());
    }
    for (const std::string& name : entry.release.contributions()) {
      if (parent.erase(name) == 0) entry.added.push_back(name);
    }
    entry.removed.assign(parent.begin(), parent.end());
  }
}

absl::StatusOr<History> ReadHistory(HubChannel& hub, const std::string& model) {
  v1::ListReleasesRequest releases;
  releases.set_parent(model);
  CAIRN_ASSIGN_OR_RETURN(
      auto listed,
      ListAll(hub, &v1::ReleaseService::Stub::ListReleases, releases));
  v1::ListTagsRequest tags;
  tags.set_parent(model);
  CAIRN_ASSIGN_OR_RETURN(auto names,
                         ListAll(hub, &v1::TagService::Stub::ListTags, tags));
  v1::ListContributionsRequest contributions;
  contributions.set_parent(model);
  CAIRN_ASSIGN_OR_RETURN(
      auto all, ListAll(hub, &v1::ContributionService::Stub::ListContributions,
                        contributions));
  History out;
  for (v1::Contribution& c : all) out.contributions[c.name()] = std::move(c);
  for (auto it = listed.rbegin(); it != listed.rend(); ++it) {
    Entry& entry = out.entries.emplace_back();
    entry.release = std::move(*it);
    for (const v1::Tag& tag : names) {
      if (tag.release() == entry.release.name()) {
        entry.tags.push_back(ShortName(tag.name()));
      }
    }
  }
  FillInChanges(out.entries);
  return out;
}

std::string EntryJson(const Entry& entry) {
  ordered_json json = {{"name", entry.release.name()},
                       {"version", entry.release.version()},
                       {"parent", entry.release.parent()},
                       {"digest", entry.release.digest()},
                       {"commit", entry.release.commit()},
                       {"createTime", FormatTime(entry.release.create_time())},
                       {"tags", entry.tags},
                       {"added", entry.added},
                       {"removed", entry.removed},
                       {"yanked", entry.release.yanked()},
                       {"rolledBack", entry.release.rolled_back()}};
  return json.dump();
}

std::string DescribeMember(const History& history, const std::string& name,
                           absl::string_view sign) {
  auto found = history.contributions.find(name);
  if (found == history.contributions.end()) return absl::StrCat(sign, name);
  const v1::Contribution& c = found->second;
  return absl::StrCat(
      sign, ShortName(name), "  ", ShortName(c.author()),
      c.title().empty() ? "" : "  ", c.title(), c.claims().empty() ? "" : "  (",
      absl::StrJoin(c.claims(), ", "), c.claims().empty() ? "" : ")");
}

std::string DescribeEntry(const Session& session, const History& history,
                          const Entry& entry, bool graph) {
  const absl::string_view node = graph ? "* " : "";
  const absl::string_view line = graph ? "|   " : "    ";
  std::string out = absl::StrCat(
      node, session.Colored(entry.release.version(), "33"), "  ",
      ShortDigest(entry.release.digest()), "  ",
      FormatTime(entry.release.create_time()), entry.tags.empty() ? "" : "  (",
      absl::StrJoin(entry.tags, ", "), entry.tags.empty() ? "" : ")",
      entry.release.yanked().empty() ? "" : "  yanked",
      entry.release.rolled_back() ? "  rolled back" : "");
  for (const std::string& name : entry.added) {
    absl::StrAppend(&out, "\n", line, DescribeMember(history, name, "+ "));
  }
  for (const std::string& name : entry.removed) {
    absl::StrAppend(&out, "\n", line, DescribeMember(history, name, "- "));
  }
  return out;
}

absl::Status ShowLog(Session& session, const LogOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(std::string model, ModelName(options.model));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(History history, ReadHistory(*hub, model));
  for (const Entry& entry : history.entries) {
    session.Print(session.flags().json
                      ? EntryJson(entry)
                      : DescribeEntry(session, history, entry, options.graph));
  }
  return absl::OkStatus();
}

// The release since which the tensor has the bytes that the head has.
absl::Status Blame(Session& session, const BlameOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(std::string model, ModelName(options.model));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(History history, ReadHistory(*hub, model));
  const Entry* entry = nullptr;
  std::map<std::string, const Entry*> by_name;
  for (const Entry& e : history.entries) {
    by_name[e.release.name()] = &e;
    for (const std::string& tag : e.tags) {
      if (tag == "latest") entry = &e;
    }
  }
  const Entry* since = nullptr;
  std::string digest;
  while (entry != nullptr) {
    CAIRN_ASSIGN_OR_RETURN(auto tensors,
                           FetchTensorManifest(*hub, entry->release));
    const v1::Tensor* tensor = FindTensor(tensors, options.tensor);
    if (tensor == nullptr && since == nullptr) {
      return absl::NotFoundError(absl::StrCat(
          entry->release.name(), " has no tensor ", options.tensor));
    }
    if (tensor == nullptr || (since != nullptr && tensor->sha256() != digest)) {
      break;
    }
    since = entry;
    digest = tensor->sha256();
    auto parent = by_name.find(entry->release.parent());
    entry = parent == by_name.end() ? nullptr : parent->second;
  }
  if (since == nullptr) return absl::NotFoundError("the model has no release");
  session.Print(
      session.flags().json
          ? EntryJson(*since)
          : absl::StrCat(options.tensor, " is as it is since\n",
                         DescribeEntry(session, history, *since, false)));
  return absl::OkStatus();
}

}  // namespace

void AddHistoryCommands(CommandLine& root) {
  root.Add<LogOptions>(
      "log", "Tell the history of a model, newest release first",
      "cairn log tiny-llama --graph",
      [](Parameters& p, LogOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Flag("--graph", o.graph, "Draw the line of releases");
      },
      ShowLog);
  root.Add<BlameOptions>(
      "blame", "Show which release last changed a tensor",
      "cairn blame tiny-llama model.layers.0.mlp.up_proj.weight",
      [](Parameters& p, BlameOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Argument("TENSOR", o.tensor, "Name of the tensor");
      },
      Blame);
}

}  // namespace cairn::cli
