#ifndef CAIRN_CORE_UPDATE_PEFT_UPDATE_H_
#define CAIRN_CORE_UPDATE_PEFT_UPDATE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/update/adapter_reader.h"
#include "core/update/adapter_steps.h"
#include "core/update/update.h"

namespace cairn {

// A PEFT adapter: LoRA of every kind, IA3 or SHiRA; see ReadAdapter(). A tensor
// whose change is one low-rank product has factors. What depends on the base
// (DoRA, IA3) or replaces it is told by effects.
class PeftUpdate : public Update {
 public:
  // `base` (null: not known) is looked at now only.
  static absl::StatusOr<std::unique_ptr<PeftUpdate>> Open(
      const ByteSource& config, SharedSource weights, const BaseModel* base,
      Vocabulary vocabulary);

  v1::Encoding::Kind encoding() const override { return encoding_; }
  Form form() const override { return Form::kAdapter; }
  const std::vector<TouchedTensor>& touched() const override {
    return touched_;
  }
  std::string base_digest() const override { return ""; }
  absl::Status CheckFinite() const override;
  absl::StatusOr<double> DeltaNorm(absl::string_view tensor,
                                   const ByteSource& base) const override;
  absl::StatusOr<LoraFactors> ReadFactors(
      absl::string_view tensor) const override;
  int64_t FactorBytes(absl::string_view tensor) const override;
  absl::StatusOr<Effect> OpenEffect(absl::string_view tensor,
                                    const BaseValues& base) const override;
  int64_t EffectBytes(absl::string_view tensor) const override;

  // What the adapter does, tensor by tensor.
  const AdapterPlan& plan() const { return plan_; }

 private:
  PeftUpdate(v1::Encoding::Kind encoding, SharedSource weights,
             std::vector<TensorEntry> entries, AdapterPlan plan);

  // The product that is a tensor's whole change, or null.
  const AdapterStep* OneProduct(absl::string_view tensor) const;

  const v1::Encoding::Kind encoding_;
  const SharedSource weights_;
  const std::vector<TensorEntry> entries_;  // all that the file holds
  const AdapterPlan plan_;
  std::vector<TouchedTensor> touched_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_PEFT_UPDATE_H_
