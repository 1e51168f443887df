#include "core/base/failpoint.h"

#include <signal.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(50);

enum class Action { kCrash, kError, kEnospc, kDelay };

struct Arming {
  Action action = Action::kError;
  int64_t first = 1;
  int64_t times = std::numeric_limits<int64_t>::max();
  int64_t hits = 0;
};

Mutex mutex;
std::array<std::optional<Arming>, internal::kFailpoints> armings
    ABSL_GUARDED_BY(mutex);

absl::StatusOr<Action> ParseAction(absl::string_view text) {
  if (text == "crash") return Action::kCrash;
  if (text == "error") return Action::kError;
  if (text == "enospc") return Action::kEnospc;
  if (text == "delay") return Action::kDelay;
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is not crash, error, enospc or delay"));
}

// Cuts `mark` and the number after it off the end of `text`.
absl::StatusOr<int64_t> CutNumber(char mark, int64_t otherwise,
                                  absl::string_view& text) {
  const size_t at = text.find(mark);
  if (at == absl::string_view::npos) return otherwise;
  int64_t number = 0;
  if (!absl::SimpleAtoi(text.substr(at + 1), &number) || number < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text.substr(at), "' is not '", std::string(1, mark),
                     "' and a number from 1 on"));
  }
  text = text.substr(0, at);
  return number;
}

absl::StatusOr<std::pair<size_t, Arming>> ParsePart(absl::string_view part) {
  const std::pair<absl::string_view, absl::string_view> halves =
      absl::StrSplit(part, absl::MaxSplits('=', 1));
  size_t index = 0;
  while (index < internal::kFailpoints &&
         halves.first != absl::string_view(kFailpointNames[index])) {
    ++index;
  }
  if (index == internal::kFailpoints) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no failpoint '", halves.first, "'"));
  }
  Arming arming;
  absl::string_view text = halves.second;
  CAIRN_ASSIGN_OR_RETURN(arming.times, CutNumber('*', arming.times, text));
  CAIRN_ASSIGN_OR_RETURN(arming.first, CutNumber('@', arming.first, text));
  CAIRN_ASSIGN_OR_RETURN(arming.action, ParseAction(text));
  return std::make_pair(index, arming);
}

}  // namespace

namespace internal {

std::array<std::atomic<bool>, kFailpoints> armed_failpoints = {};

absl::Status HitFailpoint(size_t index) {
  Action action;
  {
    MutexLock lock(mutex);
    if (!armings[index].has_value()) return absl::OkStatus();
    Arming& arming = *armings[index];
    const int64_t hit = ++arming.hits;
    if (hit < arming.first || hit - arming.first >= arming.times) {
      return absl::OkStatus();
    }
    action = arming.action;
  }
  const std::string doing = absl::StrCat("failpoint ", kFailpointNames[index]);
  switch (action) {
    case Action::kCrash:
      // As a crash is: no destructor, no handler, no flush.
      (void)raise(SIGKILL);
      break;
    case Action::kError:
      return absl::UnavailableError(doing);
    case Action::kEnospc:
      return SystemError(ENOSPC, doing);
    case Action::kDelay:
      absl::SleepFor(kPause);
      break;
  }
  return absl::OkStatus();
}

}  // namespace internal

absl::Status ArmFailpoints(absl::string_view plan) {
  std::vector<std::pair<size_t, Arming>> parts;
  for (absl::string_view part : absl::StrSplit(plan, ',', absl::SkipEmpty())) {
    CAIRN_ASSIGN_OR_RETURN(auto parsed, ParsePart(part));
    parts.push_back(parsed);
  }
  MutexLock lock(mutex);
  armings.fill(std::nullopt);
  for (auto& armed : internal::armed_failpoints) armed = false;
  for (const auto& [index, arming] : parts) {
    armings[index] = arming;
    internal::armed_failpoints[index] = true;
  }
  return absl::OkStatus();
}

absl::Status ArmFailpointsFromEnvironment() {
  const char* plan = std::getenv("CAIRN_FAILPOINTS");
  if (plan == nullptr || *plan == '\0') return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(Annotate(ArmFailpoints(plan), "CAIRN_FAILPOINTS"));
  CAIRN_LOG(kWarning, "this process breaks on plan: CAIRN_FAILPOINTS=", plan);
  return absl::OkStatus();
}

}  // namespace cairn
