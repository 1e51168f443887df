#ifndef CAIRN_MERGE_METHOD_TENSOR_METHOD_H_
#define CAIRN_MERGE_METHOD_TENSOR_METHOD_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "merge/method/element_rule.h"

namespace cairn {

// A tensor beside those that are merged, which is read as a whole.
class WholeTensor {
 public:
  virtual ~WholeTensor() = default;
  virtual const std::vector<int64_t>& shape() const = 0;
  // Elements from `first` on. Thread-safe.
  virtual absl::Status Read(int64_t first, absl::Span<float> out) const = 0;
};

struct WholeModel;

// Whose meaning a method has where tools and papers differ under one name.
enum class Profile { kMergekit, kPaper, kPeft };

// One tensor that is to be merged from several.
struct MethodTask {
  struct Input {
    std::map<std::string, double> parameters = {};
    uint64_t random_key = 0;  // of this input's stream for this tensor
    size_t participant = 0;  // in `whole`
    // A factor on this model's task vector, before anything else.
    double clip = 1;
    // This input is no model but the Fisher diagonal of that one.
    std::optional<size_t> fisher_of = {};
    // Gram matrix of what the layer got as input, of this model; may be null.
    std::shared_ptr<const WholeTensor> gram = {};
  };

  std::vector<int64_t> shape;
  std::vector<Input> inputs;
  // Which of them is the base; none: the method has no use for one.
  std::optional<size_t> base;
  std::map<std::string, double> parameters;  // that all inputs share
  Profile profile = Profile::kMergekit;
  // For methods that need it; null while a merge is planned from headers.
  std::shared_ptr<const WholeModel> whole = {};

  int64_t elements() const;
  double Shared(const std::string& name) const { return parameters.at(name); }
  // The models but for the base.
  std::vector<size_t> Others() const;
};

// The same range of every input, in the order of the task's inputs.
struct InputTile {
  int64_t first = 0;
  size_t count = 0;
  std::vector<const float*> inputs;
};

// What a pass has to see of a tensor: nothing, a few elements in places from
// all over it (LookPlaces), or all in order.
enum class PassScope { kNone, kLook, kAll };

// Combine() of a method as a rule for one element.
struct ElementFormula {
  ElementRule rule;
  std::vector<ElementMember> members;
  std::vector<float> weights;  // one a member, for each vector of the rule

  static ElementFormula Of(ElementKind kind, std::optional<size_t> base,
                           const std::vector<size_t>& members,
                           std::vector<float> weights = {});
};

// How one tensor is merged. The tensor is read in order, tile by tile:
// passes() times for Observe(), once more for Combine(). Tiles hold whole
// multiples of granule() and of kSumBlock elements where those are smaller
// than the tensor. All arithmetic is float32, with sums over a tensor in
// double, and depends on no tile. Not thread-safe.
class TensorMethod {
 public:
  virtual ~TensorMethod() = default;

  // Elements that have to be seen together, for example a row.
  virtual int64_t granule() const { return 1; }
  virtual int passes() const { return 0; }
  // Of a pass, once those before it have ended. A method takes it if it is
  // shown more.
  virtual PassScope scope(int /*pass*/) const { return PassScope::kAll; }
  // Bytes held besides tiles.
  virtual int64_t memory_bytes() const { return 0; }
  virtual void Observe(int /*pass*/, const InputTile& /*tile*/) {}
  virtual absl::Status EndPass(int /*pass*/) { return absl::OkStatus(); }
  // Fills `out` with the merged elements of the tile.
  virtual void Combine(const InputTile& tile, float* out) = 0;
  // Combine() for devices other than the processor: gives every element the
  // same bits, a NaN's aside. None where elements are not merged each on their
  // own. Whether there is one is known before the passes, its numbers after.
  virtual std::optional<ElementFormula> Formula() const { return std::nullopt; }
};

// The tile of about `tile_elements` of a method that has to see `granule`
// elements together.
int64_t TileElements(int64_t tile_elements, int64_t granule);

// Where a look at a tensor begins in each of its places, and how many elements
// it takes there.
inline constexpr int64_t kLookElements = 256;
std::vector<int64_t> LookPlaces(int64_t elements);

// A parameter of a method.
struct MethodParameter {
  enum class Scope { kShared, kInput, kOther };  // kOther: all but the base
  // The files are safetensors that hold, under the names of the model's
  // tensors, their Fisher diagonals or the Gram matrices of their inputs.
  enum class Kind { kNumber, kInteger, kBool, kFisherFile, kGramFile };
  bool is_file() const {
    return kind == Kind::kFisherFile || kind == Kind::kGramFile;
  }

  std::string name;
  Scope scope = Scope::kShared;
  Kind kind = Kind::kNumber;
  std::optional<double> fallback = {};  // none: required, unless is_optional
  double least = 0;
  double most = 0;
  bool is_optional = false;
};

// A method by its name in recipes.
struct MethodSpec {
  enum class Base { kIgnored, kOptional, kRequired };

  std::string name;
  std::string source;  // paper or page, and what it computes
  Base base = Base::kIgnored;
  int inputs_min = 1;  // with the base
  int inputs_max = 1 << 20;
  int others_min = 0;  // without
  int others_max = 1 << 20;
  // Whether the order of the inputs says nothing: they are then taken in an
  // order of their own.
  bool is_symmetric = true;
  bool is_random = false;
  // Whether it depends on the models' differences from the base alone, so that
  // updates can be merged by it.
  bool is_on_deltas = false;
  // Whether it chooses by the inner products of whole models.
  bool needs_products = false;
  std::vector<MethodParameter> parameters = {};
  absl::StatusOr<std::unique_ptr<TensorMethod>> (*make)(MethodTask) = nullptr;

  const MethodParameter* Find(absl::string_view parameter) const;
};

// The method for a task, over clipped task vectors where the task says so.
absl::StatusOr<std::unique_ptr<TensorMethod>> MakeMethod(const MethodSpec& spec,
                                                         MethodTask task);

// All methods, sorted by name.
absl::Span<const MethodSpec> AllMethods();
// Null when there is none of that name.
const MethodSpec* FindMethod(absl::string_view name);

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_TENSOR_METHOD_H_
