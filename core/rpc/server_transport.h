#ifndef CAIRN_CORE_RPC_SERVER_TRANSPORT_H_
#define CAIRN_CORE_RPC_SERVER_TRANSPORT_H_

#include <grpcpp/server_builder.h>

namespace cairn {

// Bounds what a server's transport keeps in memory for its peers: messages of
// at most kMessageBytesMax, a fixed window a stream, a quota as the last
// fence. Connections whose peer is gone are found by keep-alive pings.
//
// The window is fixed because the transport's own estimate grows without
// bound while a busy disk lets streams wait: 16 uploads at once took 600 MiB
// so, and 60 MiB with 1 MiB windows, at the same speed. 1 MiB carries 16 MB/s
// over a line of 60 ms.
void BoundTransport(grpc::ServerBuilder& builder);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_SERVER_TRANSPORT_H_
