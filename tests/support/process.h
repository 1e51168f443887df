#ifndef CAIRN_TESTS_SUPPORT_PROCESS_H_
#define CAIRN_TESTS_SUPPORT_PROCESS_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace cairn::testing {

// A finished program.
struct ProcessResult {
  // Exit code, or 128 + signal.
  int code = -1;
  std::string out;
  std::string err;
};

// A program started by a test. Killed and reaped when it goes away. Aborts the
// test program when the program cannot be started.
class Process {
 public:
  struct Options {
    std::vector<std::string> argv;
    // Added to the environment; an empty value removes a variable.
    std::map<std::string, std::string> env;
    // Where standard output and error go, one file for each.
    std::string out_path = "/dev/null";
    std::string err_path = "/dev/null";
  };

  explicit Process(const Options& options);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // True while it has not ended.
  bool IsRunning();
  void Signal(int signal) const;
  // Sends SIGKILL and reaps.
  void Kill();
  // Waits; SIGKILL when the time runs out. Exit code, or 128 + signal.
  int Wait(absl::Duration timeout);

 private:
  void Reap(bool block);

  pid_t pid_ = -1;
  int code_ = -1;
  bool is_reaped_ = false;
};

// Runs a program to its end and captures what it wrote.
ProcessResult RunProcess(const std::vector<std::string>& argv,
                         const std::map<std::string, std::string>& env,
                         absl::Duration timeout);

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_SUPPORT_PROCESS_H_
