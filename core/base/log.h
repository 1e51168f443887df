#ifndef CAIRN_CORE_BASE_LOG_H_
#define CAIRN_CORE_BASE_LOG_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace cairn {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// One line to standard error: time, level, message. Thread-safe. Messages
// below the level set are dropped.
void Log(LogLevel level, absl::string_view message);
void SetLogLevel(LogLevel level);

namespace internal {
[[noreturn]] void CheckFailed(const char* file, int line,
                              const char* condition);
}  // namespace internal
}  // namespace cairn

// CAIRN_LOG(kInfo, "leased ", job, " to ", worker);
#define CAIRN_LOG(level, ...) \
  ::cairn::Log(::cairn::LogLevel::level, ::absl::StrCat(__VA_ARGS__))

// For programmer errors only: nothing a peer or a disk sends may reach one.
#define CAIRN_CHECK(condition)                                        \
  do {                                                                \
    if (!(condition)) [[unlikely]] {                                  \
      ::cairn::internal::CheckFailed(__FILE__, __LINE__, #condition); \
    }                                                                 \
  } while (false)

#endif  // CAIRN_CORE_BASE_LOG_H_
