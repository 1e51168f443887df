#ifndef CAIRN_TESTS_INTEGRATION_UPDATE_JOURNEY_H_
#define CAIRN_TESTS_INTEGRATION_UPDATE_JOURNEY_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cairn/v1/contribution.pb.h"
#include "cairn/v1/job.pb.h"
#include "client/credentials.h"
#include "client/push.h"
#include "core/rpc/hub_channel.h"
#include "merge/worker/job_runner.h"
#include "server/testing/in_process_hub.h"

namespace cairn::testing {

// A path under tests/testdata/merge.
std::filesystem::path MergeGolden(const std::string& path);

// The way of an update through a whole hub in this process, where ada pushes,
// and through the jobs of a worker, for the small bases of
// tests/testdata/merge.
class UpdateJourney : public ::testing::Test {
 protected:
  UpdateJourney();
  ~UpdateJourney() override;

  // Makes a model of that base, with its name.
  void CreateModel(const std::string& base);
  // Has ada push a directory against the first release.
  absl::StatusOr<v1::Contribution> PushDirectory(const std::string& directory,
                                                 const std::string& base);
  // The contribution once the screens are through with it.
  v1::Contribution Screened(const std::string& contribution);

  // A job's folder as the worker would have staged it, with the update in
  // `directory`.
  JobContext Stage(const std::string& job, const std::string& base,
                   const std::string& directory, v1::UpdateInput& update);
  // The same without the update's files.
  JobContext StageRelease(const std::string& job, const std::string& base,
                          v1::UpdateInput& update);
  // Holds the tensors of a merge to those of a safetensors file, within 2e-6
  // of the largest. Rows of the base past those of the file are not compared.
  void ExpectTensors(const std::filesystem::path& file, const std::string& base,
                     const JobContext& context, const v1::MergeResult& merge);

  std::filesystem::path scratch_;
  InProcessHub hub_;
  std::unique_ptr<HubChannel> ada_;
  std::unique_ptr<Home> home_;
  PushVoice voice_;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_INTEGRATION_UPDATE_JOURNEY_H_
