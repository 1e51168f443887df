#ifndef CAIRN_CORE_RPC_GRPC_STATUS_H_
#define CAIRN_CORE_RPC_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace cairn {

// Code, message and payloads (as the details of a binary google.rpc.Status) in
// gRPC's own type, and back. Payloads survive the way over the wire.
grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_GRPC_STATUS_H_
