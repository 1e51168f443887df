#ifndef CAIRN_CLIENT_PUSH_H_
#define CAIRN_CLIENT_PUSH_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cairn/v1/contribution.pb.h"
#include "client/credentials.h"
#include "client/progress.h"
#include "core/rpc/hub_channel.h"

namespace cairn {

// What is pushed and what is said about it.
struct PushOptions {
  // models/M.
  std::string model;
  // A PEFT directory, a Cairn update or a fine-tuned checkpoint.
  std::string path;
  // A release of the model; empty: found by the update's files.
  std::string base;
  // Short names of suites said to get better.
  std::vector<std::string> claims;
  std::string title;
  // SPDX identifier; empty: the policy's default, if it has one.
  std::string license;
  v1::Recipe recipe;
  // The hub checks everything and stores no contribution.
  bool validate_only = false;
};

// Where a push speaks to the person who runs it.
struct PushVoice {
  std::function<void(const std::string&)> note;
  std::function<void(const std::string&)> warn;
  // A meter for a phase that moves so many bytes.
  std::function<std::unique_ptr<ProgressMeter>(const std::string& label,
                                               int64_t total_bytes)>
      meter;
};

// Makes the update if `path` is a checkpoint, checks it, uploads what the hub
// lacks, and creates the contribution, signed with the home's key if it has
// one. Repeating an interrupted push resumes it; repeating a finished one
// gives the same contribution.
absl::StatusOr<v1::Contribution> Push(HubChannel& hub, const Home& home,
                                      const PushOptions& options,
                                      const PushVoice& voice);

}  // namespace cairn

#endif  // CAIRN_CLIENT_PUSH_H_
