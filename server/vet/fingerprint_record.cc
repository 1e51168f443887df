#include "server/vet/fingerprint_record.h"

#include <cmath>

namespace cairn {

store::v1::FingerprintRecord MakeFingerprintRecord(
    const store::v1::ContributionRecord& record, const Fingerprint& print) {
  store::v1::FingerprintRecord out;
  out.set_contribution(record.contribution().name());
  out.set_model(record.model());
  out.set_author(record.contribution().author());
  for (const LayerFeatures& layer : print.layers) {
    auto& to = *out.add_layers();
    to.set_tensor(layer.tensor);
    to.set_norm(layer.norm);
    // A tensor of zeros has no norm to compare with; the gate judges it.
    if (layer.base_norm > 0) {
      to.set_ratio(std::isfinite(layer.norm) ? layer.norm / layer.base_norm
                                             : HUGE_VAL);
    }
    to.set_rank(layer.rank);
    to.set_leading_share(layer.leading_share);
    to.set_effective_rank(layer.effective_rank);
  }
  out.mutable_sketch()->Add(print.sketch.begin(), print.sketch.end());
  out.set_samples(print.changed);
  if (print.elements > 0) {
    out.set_density(static_cast<double>(print.changed) /
                    static_cast<double>(print.elements));
  }
  if (print.changed > 0) {
    out.set_positive_share(static_cast<double>(print.positive) /
                           static_cast<double>(print.changed));
  }
  out.set_vocabulary_rows(print.vocabulary_rows);
  out.set_vocabulary_concentration(print.vocabulary_concentration);
  out.set_vocabulary_gap(print.vocabulary_gap);
  return out;
}

}  // namespace cairn
