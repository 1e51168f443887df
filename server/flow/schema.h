#ifndef CAIRN_SERVER_FLOW_SCHEMA_H_
#define CAIRN_SERVER_FLOW_SCHEMA_H_

#include "storage/schema.h"

namespace cairn {

// How this hub stores its records and blobs. A change that older programs
// would misread, or that needs old records rewritten, is a new step.
Schema HubSchema();

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_SCHEMA_H_
