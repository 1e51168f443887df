#ifndef CAIRN_SERVER_VET_FINGERPRINT_RECORD_H_
#define CAIRN_SERVER_VET_FINGERPRINT_RECORD_H_

#include "cairn/store/v1/records.pb.h"
#include "core/update/fingerprint.h"

namespace cairn {

// A fingerprint as it is kept with its contribution.
store::v1::FingerprintRecord MakeFingerprintRecord(
    const store::v1::ContributionRecord& record, const Fingerprint& print);

}  // namespace cairn

#endif  // CAIRN_SERVER_VET_FINGERPRINT_RECORD_H_
