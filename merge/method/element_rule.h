#ifndef CAIRN_MERGE_METHOD_ELEMENT_RULE_H_
#define CAIRN_MERGE_METHOD_ELEMENT_RULE_H_

#include <cstdint>

#include "core/base/host_device.h"
#include "merge/method/element_math.h"

namespace cairn {

// What a method makes of one element when its passes are over. delta is an
// input less the base, or the input where there is no base.
enum class ElementKind : uint8_t {
  kWeightedSum,  // base + factor x (start + sum of weight x delta)
  kAgreeing,     // base + factor x weighted deltas of the elected sign
  kNearswap,
  kRam,
  kMagMax,  // from here on base + factor x a choice among the deltas
  kEmr,
  kConsensus,
  kTrimmedMean,
};

// The numbers of a rule: plain, for kernels.
struct ElementRule {
  ElementKind kind = ElementKind::kWeightedSum;
  bool has_base = false;
  bool is_normalized = false;  // kAgreeing: over the agreeing weights
  bool has_columns = false;    // weights by position % length, else / length
  uint32_t base = 0;           // an input
  uint32_t members = 0;
  int32_t count = 0;    // consensus' agree; how many a trimmed mean cuts off
  float start = 0;      // -0 leaves the first product as it is
  float factor = 1;     // lambda, or lambda over the sum of the weights
  float level = 0;      // nearswap's t, RAM's epsilon, consensus' mask_lambda
  uint64_t length = 0;  // elements that share weights; 0: all
};

// An input that is merged.
struct ElementMember {
  uint64_t key = 0;        // of its random stream
  uint32_t input = 0;
  uint32_t threshold = 0;  // drops elements with a word from it on
  float kept_factor = 1;   // on what is not dropped
  bool is_random = false;
};

// Applies a rule to one element; `load(i)` gives it of input i. `weights` has
// one number a member for each vector of the rule.
template <ElementKind kind, typename Load>
class ElementCombiner {
 public:
  CAIRN_HOST_DEVICE ElementCombiner(const ElementRule& rule,
                                    const ElementMember* members,
                                    const float* weights, uint64_t position,
                                    const Load& load)
      : rule_(rule),
        members_(members),
        weights_(weights + Vector(rule, position) * rule.members),
        position_(position),
        load_(load),
        base_(rule.has_base ? load(rule.base) : 0.0f) {}

  CAIRN_HOST_DEVICE float Combine() const {
    if constexpr (kind == ElementKind::kNearswap) {
      return NearswapElement(rule_.level, base_, load_(members_[0].input));
    } else if constexpr (kind == ElementKind::kRam) {
      return Ram();
    } else {
      const float change = rule_.factor * Choose();
      return rule_.has_base ? base_ + change : change;
    }
  }

 private:
  CAIRN_HOST_DEVICE static uint64_t Vector(const ElementRule& rule,
                                           uint64_t position) {
    if (rule.length == 0) return 0;
    return rule.has_columns ? position % rule.length : position / rule.length;
  }

  CAIRN_HOST_DEVICE float Delta(uint32_t m) const {
    const ElementMember& member = members_[m];
    float delta = load_(member.input);
    if (rule_.has_base) delta -= base_;
    if (!member.is_random) return delta;
    const bool is_kept = RandomWord(member.key, position_) < member.threshold;
    return member.kept_factor * (is_kept ? delta : 0.0f);
  }

  CAIRN_HOST_DEVICE float Choose() const {
    if constexpr (kind == ElementKind::kWeightedSum) {
      float sum = rule_.start;
      for (uint32_t m = 0; m < rule_.members; ++m) sum += weights_[m] * Delta(m);
      return sum;
    } else if constexpr (kind == ElementKind::kAgreeing) {
      return Agreeing();
    } else if constexpr (kind == ElementKind::kMagMax) {
      float most = 0;
      for (uint32_t m = 0; m < rule_.members; ++m) {
        most = LargerMagnitude(most, Delta(m));
      }
      return most;
    } else if constexpr (kind == ElementKind::kEmr) {
      const float sign = ElectedSign(Sum());
      float most = 0;
      for (uint32_t m = 0; m < rule_.members; ++m) {
        most = MaxOf(most, Delta(m) * sign);
      }
      return most * sign;
    } else if constexpr (kind == ElementKind::kConsensus) {
      const float sum = Sum();
      int32_t users = 0;
      for (uint32_t m = 0; m < rule_.members; ++m) {
        users += IsUser(Delta(m), sum, rule_.level) ? 1 : 0;
      }
      return users >= rule_.count ? sum : 0.0f;
    } else {
      return TrimmedMean();
    }
  }

  CAIRN_HOST_DEVICE float Sum() const {
    float sum = 0;
    for (uint32_t m = 0; m < rule_.members; ++m) sum += Delta(m);
    return sum;
  }

  CAIRN_HOST_DEVICE float Ram() const {
    float users = 0, shared = 0, unique = 0;
    for (uint32_t m = 0; m < rule_.members; ++m) {
      AddRam(Delta(m), weights_[m], rule_.level, users, shared, unique);
    }
    return RamElement(base_, users, shared, unique);
  }

  CAIRN_HOST_DEVICE float Agreeing() const {
    float sum = 0;
    for (uint32_t m = 0; m < rule_.members; ++m) sum += weights_[m] * Delta(m);
    const float sign = ElectedSign(sum);
    float mixed = 0, divisor = 0;
    for (uint32_t m = 0; m < rule_.members; ++m) {
      AddAgreeing(weights_[m] * Delta(m), weights_[m], sign, mixed, divisor);
    }
    return rule_.is_normalized ? OverNonZero(mixed, divisor) : mixed;
  }

  // Takes the deltas in order without room to sort them: each time the least
  // of those that come after the last.
  CAIRN_HOST_DEVICE float TrimmedMean() const {
    const auto trimmed = static_cast<uint32_t>(rule_.count);
    float sum = 0, last = 0;
    uint32_t last_member = 0;
    for (uint32_t rank = 0; rank + trimmed < rule_.members; ++rank) {
      float next = 0;
      uint32_t next_member = rule_.members;  // none yet
      for (uint32_t m = 0; m < rule_.members; ++m) {
        const float delta = Delta(m);
        const bool is_after =
            rank == 0 || ComesBefore(last, delta) ||
            (m > last_member && !ComesBefore(delta, last));
        if (!is_after) continue;
        if (next_member == rule_.members || ComesBefore(delta, next)) {
          next = delta;
          next_member = m;
        }
      }
      last = next;
      last_member = next_member;
      if (rank >= trimmed) sum += next;
    }
    return sum / static_cast<float>(rule_.members - 2 * trimmed);
  }

  const ElementRule& rule_;
  const ElementMember* const members_;
  const float* const weights_;
  const uint64_t position_;
  const Load& load_;
  const float base_;
};

template <ElementKind kind, typename Load>
CAIRN_HOST_DEVICE float CombineElement(const ElementRule& rule,
                                       const ElementMember* members,
                                       const float* weights, uint64_t position,
                                       const Load& load) {
  return ElementCombiner<kind, Load>(rule, members, weights, position, load)
      .Combine();
}

// Calls `visitor.template operator()<kind>()` for the kind of a rule.
template <typename Visitor>
auto VisitKind(ElementKind kind, const Visitor& visitor) {
  switch (kind) {
    case ElementKind::kAgreeing:
      return visitor.template operator()<ElementKind::kAgreeing>();
    case ElementKind::kNearswap:
      return visitor.template operator()<ElementKind::kNearswap>();
    case ElementKind::kRam:
      return visitor.template operator()<ElementKind::kRam>();
    case ElementKind::kMagMax:
      return visitor.template operator()<ElementKind::kMagMax>();
    case ElementKind::kEmr:
      return visitor.template operator()<ElementKind::kEmr>();
    case ElementKind::kConsensus:
      return visitor.template operator()<ElementKind::kConsensus>();
    case ElementKind::kTrimmedMean:
      return visitor.template operator()<ElementKind::kTrimmedMean>();
    default:
      return visitor.template operator()<ElementKind::kWeightedSum>();
  }
}

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_ELEMENT_RULE_H_
