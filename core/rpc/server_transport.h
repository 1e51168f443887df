#ifndef CAIRN_CORE_RPC_SERVER_TRANSPORT_H_
#define CAIRN_CORE_RPC_SERVER_TRANSPORT_H_

#include <grpcpp/server_builder.h>

namespace cairn {

// Bounds what a server's transport keeps in memory for its peers: messages of
// at most kMessageBytesMax, and a quota for all windows. Connections whose
// peer is gone are found by keep-alive pings.
//
// The windows follow the transport's own estimate of the line. Fixed ones
// would bound memory by themselves, but the transport does not widen them past
// 64 KiB and the message that is being read: over a line of 60 ms a stream
// then moves 3 MB/s. The estimate grows while streams wait for a busy disk;
// the quota shrinks the windows before that costs much.
void BoundTransport(grpc::ServerBuilder& builder);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_SERVER_TRANSPORT_H_
