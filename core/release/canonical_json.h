#ifndef CAIRN_CORE_RELEASE_CANONICAL_JSON_H_
#define CAIRN_CORE_RELEASE_CANONICAL_JSON_H_

#include <string>

#include "google/protobuf/message.h"

namespace cairn {

// Proto3 JSON of a message without fields at their defaults, with maps sorted
// by key, indented by two spaces, ending in a newline. Equal messages give
// equal bytes, on any machine and with any version of protobuf, whose own
// printer promises neither, and fields added to the contract later do not
// change what is printed of messages that lack them.
std::string CanonicalJson(const google::protobuf::Message& message);

}  // namespace cairn

#endif  // CAIRN_CORE_RELEASE_CANONICAL_JSON_H_
