#ifndef CAIRN_CORE_BASE_STATUS_MACROS_H_
#define CAIRN_CORE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expr` is not OK. Works for
// absl::Status and absl::StatusOr<T>; the function may return either.
#define CAIRN_RETURN_IF_ERROR(expr)                               \
  do {                                                            \
    if (auto cairn_status_ = ::cairn::internal::AsStatus((expr)); \
        !cairn_status_.ok()) {                                    \
      return cairn_status_;                                       \
    }                                                             \
  } while (false)

// CAIRN_ASSIGN_OR_RETURN(auto value, Fallible()): returns on error, else
// moves the value into the declaration.
#define CAIRN_ASSIGN_OR_RETURN(decl, expr) \
  CAIRN_ASSIGN_OR_RETURN_IMPL_(            \
      CAIRN_STATUS_CONCAT_(cairn_status_or_, __LINE__), decl, expr)

#define CAIRN_ASSIGN_OR_RETURN_IMPL_(name, decl, expr) \
  auto name = (expr);                                  \
  if (!name.ok()) return std::move(name).status();     \
  decl = *std::move(name)

#define CAIRN_STATUS_CONCAT_INNER_(a, b) a##b
#define CAIRN_STATUS_CONCAT_(a, b) CAIRN_STATUS_CONCAT_INNER_(a, b)

namespace cairn::internal {

inline absl::Status AsStatus(absl::Status status) { return status; }

template <typename T>
absl::Status AsStatus(absl::StatusOr<T> value) {
  return std::move(value).status();
}

}  // namespace cairn::internal

#endif  // CAIRN_CORE_BASE_STATUS_MACROS_H_
