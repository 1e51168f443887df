#include "merge/process/job_process.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/file.h"

extern char** environ;

namespace cairn {
namespace {

constexpr int kCannotStart = 127;
constexpr int kNiceness = 5;
constexpr absl::Duration kPollInterval = absl::Milliseconds(10);

// Everything between fork and exec is prepared here: the child of a process
// with threads may only make system calls.
struct Prepared {
  std::vector<const char*> arguments;
  std::vector<const char*> environment;
  JobLimits limits;
  pid_t parent = 0;
};

Prepared Prepare(const std::vector<std::string>& command,
                 const JobLimits& limits) {
  Prepared prepared;
  for (const std::string& word : command) {
    prepared.arguments.push_back(word.c_str());
  }
  prepared.arguments.push_back(nullptr);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!absl::StartsWith(*entry, "CAIRN_")) {
      prepared.environment.push_back(*entry);
    }
  }
  prepared.environment.push_back(nullptr);
  prepared.limits = limits;
  prepared.parent = getpid();
  return prepared;
}

// `slack` stands between the signal and the kill, where there is a signal.
void SetLimit(int resource, int64_t value, int64_t slack = 0) {
  rlimit limit;
  limit.rlim_cur = static_cast<rlim_t>(value);
  limit.rlim_max = static_cast<rlim_t>(value + slack);
  setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr uint32_t kArchitecture = 0;
#endif

// Refuses socket() and io_uring, which could open one, with EPERM. A process
// of another architecture's system calls is killed.
void RefuseSockets() {
  if (kArchitecture == 0) return;
  constexpr uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kRefuse),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

[[noreturn]] void BecomeJob(const Prepared& prepared) {
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (getppid() != prepared.parent) _exit(kCannotStart);
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = open("/dev/null", O_RDWR);
  dup2(null, STDIN_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  syscall(SYS_close_range, 3u, ~0u, 0u);
  const JobLimits& limits = prepared.limits;
  if (limits.memory_bytes > 0) SetLimit(RLIMIT_DATA, limits.memory_bytes);
  SetLimit(RLIMIT_CPU, absl::ToInt64Seconds(limits.processor_time), 5);
  SetLimit(RLIMIT_FSIZE, limits.file_bytes);
  SetLimit(RLIMIT_NOFILE, limits.open_files);
  SetLimit(RLIMIT_CORE, 0);
  setpriority(PRIO_PROCESS, 0, kNiceness);
  unshare(CLONE_NEWNET);  // refused without privilege; the filter stands anyway
  RefuseSockets();
  execve(prepared.arguments[0],
         const_cast<char* const*>(prepared.arguments.data()),
         const_cast<char* const*>(prepared.environment.data()));
  _exit(kCannotStart);
}

absl::Status Describe(const siginfo_t& ended, const JobLimits& limits,
                      bool is_late) {
  if (is_late) {
    return absl::AbortedError(
        absl::StrCat("the job ran longer than its limit of ",
                     absl::FormatDuration(limits.wall_time)));
  }
  if (ended.si_code == CLD_EXITED) {
    if (ended.si_status == 0) return absl::OkStatus();
    return absl::AbortedError(
        absl::StrCat("the job process exited with code ", ended.si_status));
  }
  switch (ended.si_status) {
    case SIGXCPU:
      return absl::AbortedError(
          absl::StrCat("the job used more processor time than its limit of ",
                       absl::FormatDuration(limits.processor_time)));
    case SIGXFSZ:
      return absl::AbortedError(
          absl::StrCat("the job wrote a file larger than its limit of ",
                       limits.file_bytes, " bytes"));
    default: {
      const char* name = sigabbrev_np(ended.si_status);
      return absl::AbortedError(absl::StrCat("the job process was ended by SIG",
                                             name == nullptr ? "?" : name));
    }
  }
}

// Ends the child and whatever it started: it leads a group of its own, unless
// it has not come that far yet.
void KillJob(pid_t child) {
  kill(child, SIGKILL);
  kill(-child, SIGKILL);
}

// Waits for the child to end and leaves it unreaped, so that its id is not
// given to another process. False when it had to be killed for being late.
bool WaitForEnd(pid_t child, absl::Duration wall_time, siginfo_t& ended) {
  const absl::Time end = absl::Now() + wall_time;
  bool is_late = false;
  while (true) {
    ended.si_pid = 0;
    const int options = WEXITED | WNOWAIT | (is_late ? 0 : WNOHANG);
    const int failed = waitid(P_PID, static_cast<id_t>(child), &ended, options);
    if (failed != 0 && errno != EINTR) return !is_late;
    if (failed == 0 && ended.si_pid == child) return !is_late;
    if (absl::Now() > end) {
      is_late = true;
      KillJob(child);
    } else {
      absl::SleepFor(kPollInterval);
    }
  }
}

}  // namespace

absl::Status RunJobProcess(const std::vector<std::string>& command,
                           const JobLimits& limits,
                           const std::stop_token& stop) {
  const Prepared prepared = Prepare(command, limits);
  const pid_t child = fork();
  if (child < 0) return SystemError(errno, "start the job process");
  if (child == 0) BecomeJob(prepared);

  siginfo_t ended = {};
  bool is_in_time = true;
  {
    std::stop_callback kill_it(stop, [child] { KillJob(child); });
    is_in_time = WaitForEnd(child, limits.wall_time, ended);
    // Unreaped, so its group is still its own: nothing outlives the job.
    KillJob(child);
  }
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (stop.stop_requested() && ended.si_code == CLD_KILLED) {
    return absl::CancelledError("the job was stopped");
  }
  return Describe(ended, limits, !is_in_time);
}

}  // namespace cairn
