#ifndef CAIRN_SERVER_FLOW_CALLER_H_
#define CAIRN_SERVER_FLOW_CALLER_H_

#include <string>
#include <vector>

#include "cairn/v1/identity.pb.h"

namespace cairn {

// Who calls, as authentication found it. Logic classes take it; what a role
// may do is decided in server/auth before they are called.
struct Caller {
  std::string user = "";  // users/NAME; empty for an anonymous reader
  v1::User::Role role = v1::User::ROLE_UNSPECIFIED;
  std::string model = "";       // models/M when the role is for one model
  std::string public_key = "";  // registered key, hex; empty if none
  std::vector<std::string> trust = {};  // of a worker: "evaluate", "merge"

  bool is_anonymous() const { return user.empty(); }
};

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_CALLER_H_
