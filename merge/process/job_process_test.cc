#include "merge/process/job_process.h"

#include <stdlib.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

absl::Status RunShell(const std::string& script, JobLimits limits = {},
                      std::stop_token stop = {}) {
  return RunJobProcess({"/bin/sh", "-c", script}, limits, stop);
}

TEST(JobProcessTest, SucceedsWithExitCodeZero) {
  EXPECT_TRUE(RunShell("exit 0").ok());
}

TEST(JobProcessTest, TellsTheExitCode) {
  absl::Status status = RunShell("exit 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(absl::StrContains(status.message(), "code 3")) << status;
}

TEST(JobProcessTest, NamesTheSignal) {
  absl::Status status = RunShell("kill -SEGV $$");
  EXPECT_TRUE(absl::StrContains(status.message(), "SIGSEGV")) << status;
}

TEST(JobProcessTest, EndsWhatRunsTooLong) {
  const absl::Time start = absl::Now();
  absl::Status status =
      RunShell("sleep 60", {.wall_time = absl::Milliseconds(50)});
  EXPECT_TRUE(absl::StrContains(status.message(), "longer than")) << status;
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
}

TEST(JobProcessTest, EndsWhatBurnsTooMuchProcessorTime) {
  absl::Status status =
      RunShell("while :; do :; done", {.processor_time = absl::Seconds(1)});
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(absl::StrContains(status.message(), "processor time")) << status;
}

TEST(JobProcessTest, EndsWhatWritesTooLargeAFile) {
  char path[] = "/tmp/cairn-job-XXXXXX";
  close(mkstemp(path));
  absl::Status status =
      RunShell(std::string("exec head -c 100000 /dev/zero > ") + path,
               {.file_bytes = 4096});
  EXPECT_FALSE(status.ok());
  std::ifstream file(path, std::ios::ate);
  EXPECT_LE(file.tellg(), 4096);
  unlink(path);
}

TEST(JobProcessTest, RefusesMemoryPastTheLimit) {
  // Not under AddressSanitizer, which maps far more than it uses.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_FALSE(
      RunShell("x=a; while :; do x=$x$x; done", {.memory_bytes = 64 << 20})
          .ok());
#endif
}

TEST(JobProcessTest, IsStoppedOnRequest) {
  std::stop_source stop;
  std::jthread stopper([&] {
    absl::SleepFor(absl::Milliseconds(50));
    stop.request_stop();
  });
  absl::Status status = RunShell("sleep 60", {}, stop.get_token());
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

TEST(JobProcessTest, HasNoNetworkNoSecretsAndNoInheritedFiles) {
  setenv("CAIRN_TOKEN", "secret", 1);
  char path[] = "/tmp/cairn-job-XXXXXX";
  const int open_file = mkstemp(path);  // not close-on-exec
  const std::string script =
      std::string("(env | grep CAIRN_; [ -e /proc/self/fd/") +
      std::to_string(open_file) +
      " ] && echo inherited"
      "; bash -c 'exec 3<>/dev/tcp/127.0.0.1/9' 2>&1) > " +
      path;
  absl::Status status = RunShell(script + "; true");
  EXPECT_TRUE(status.ok()) << status;
  std::stringstream told;
  told << std::ifstream(path).rdbuf();
  EXPECT_FALSE(absl::StrContains(told.str(), "CAIRN_")) << told.str();
  EXPECT_FALSE(absl::StrContains(told.str(), "inherited")) << told.str();
  EXPECT_TRUE(absl::StrContains(told.str(), "not permitted")) << told.str();
  close(open_file);
  unlink(path);
  unsetenv("CAIRN_TOKEN");
}

}  // namespace
}  // namespace cairn
