#ifndef CAIRN_MERGE_CLI_LOCAL_COMMAND_H_
#define CAIRN_MERGE_CLI_LOCAL_COMMAND_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/checkpoint.h"
#include "core/update/update.h"
#include "merge/cli/command_output.h"
#include "merge/engine/merge_executor.h"

namespace CLI {
class App;
}

namespace cairn {

// Flags that every local command has.
struct LocalFlags {
  bool json = false;
  bool quiet = false;
  bool no_progress = false;
  std::string color = "auto";
  int threads = 0;  // 0: all processors
};

void AddLocalFlags(CLI::App& app, LocalFlags& flags);
int ThreadsOf(const LocalFlags& flags);

// Parses the command line and runs `work`; returns the exit code. Usage errors
// are 2, `--help` is 0.
int RunLocalCommand(CLI::App& app, int argc, char** argv,
                    const LocalFlags& flags,
                    const std::function<absl::Status()>& work);

// A problem with a local file as its user sees it: what is damaged in itself
// becomes DATA_LOSS, so that it has an exit code of its own.
absl::Status LocalFault(const absl::Status& status);

// A checkpoint or update directory, with LocalFault().
absl::StatusOr<Checkpoint> OpenLocalCheckpoint(const std::string& directory);
absl::StatusOr<std::unique_ptr<Update>> OpenLocalUpdate(
    const std::string& directory, const Checkpoint* base = nullptr);

// An output directory that appears only when it is whole: work goes to
// PATH.partial, which Publish() renames. What is not published is removed.
class OutputDirectory {
 public:
  // ALREADY_EXISTS when `path` is there and not empty.
  static absl::StatusOr<OutputDirectory> Create(const std::string& path);
  // The same, going on with what an interrupted run kept in PATH.partial.
  static absl::StatusOr<OutputDirectory> Resume(const std::string& path);
  OutputDirectory(OutputDirectory&& other) noexcept;
  OutputDirectory& operator=(OutputDirectory&&) = delete;
  ~OutputDirectory();

  // Where to write.
  const std::string& path() const { return partial_; }
  absl::Status Publish() &&;
  // Leaves what there is for Resume().
  void Keep() && { partial_.clear(); }

 private:
  explicit OutputDirectory(std::string path);

  std::string path_;
  std::string partial_;  // empty when published or moved from
};

// Merges as requested and writes the whole model into `directory`.
absl::StatusOr<MergeOutcome> MergeIntoDirectory(const MergeRequest& request,
                                                const MergeOptions& options,
                                                const std::string& directory,
                                                const LocalFlags& flags);

}  // namespace cairn

#endif  // CAIRN_MERGE_CLI_LOCAL_COMMAND_H_
