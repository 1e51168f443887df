#include "merge/model/layers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "merge/kernel/product.h"
#include "merge/kernel/row_kernels.h"

namespace cairn {
namespace {

c10::optional<at::Tensor> OrNone(const at::Tensor* tensor) {
  if (tensor == nullptr) return c10::nullopt;
  return *tensor;
}

at::Tensor Gelu(const at::Tensor& x) { return at::gelu(x); }
at::Tensor GeluTanh(const at::Tensor& x) { return at::gelu(x, "tanh"); }
at::Tensor QuickGelu(const at::Tensor& x) { return x * at::sigmoid(1.702 * x); }
at::Tensor Silu(const at::Tensor& x) { return at::silu(x); }
at::Tensor Relu(const at::Tensor& x) { return at::relu(x); }
at::Tensor Tanh(const at::Tensor& x) { return at::tanh(x); }

constexpr std::pair<absl::string_view, Activation> kActivations[] = {
    {"gelu", Gelu},
    {"gelu_python", Gelu},
    {"gelu_new", GeluTanh},
    {"gelu_pytorch_tanh", GeluTanh},
    {"gelu_fast", GeluTanh},
    {"gelu_python_tanh", GeluTanh},
    {"quick_gelu", QuickGelu},
    {"silu", Silu},
    {"swish", Silu},
    {"relu", Relu},
    {"tanh", Tanh},
};

// x W^T + b of a single row x [..., in]: a product with a vector, since one of
// matrices would first copy all of W.
at::Tensor RowProduct(const at::Tensor& x, const at::Tensor& weight,
                      const at::Tensor* bias) {
  at::Tensor out = at::mv(weight, x.flatten());
  if (bias != nullptr) out = out + *bias;
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return out.view(shape);
}

// Whether the rows of x, [B, T, width] in F32, lie `stride` apart throughout.
bool HasRowsApart(const at::Tensor& x, int64_t stride) {
  return x.scalar_type() == at::kFloat && x.dim() == 3 && x.stride(2) == 1 &&
         x.stride(1) == stride &&
         (x.size(0) == 1 || x.stride(0) == x.size(1) * stride);
}

bool CanMultiply(const at::Tensor& x, const at::Tensor& weight) {
  const at::ScalarType type = weight.scalar_type();
  return RunsOnKernels(x) && weight.is_contiguous() &&
         (type == at::kFloat || type == at::kBFloat16);
}

// x W^T + b, or x W + b, of contiguous F32 x; W in F32 or BF16.
at::Tensor KernelProduct(const at::Tensor& x, const at::Tensor& weight,
                         bool is_in_out, const at::Tensor* bias) {
  const int64_t depth = x.size(-1), columns = weight.size(is_in_out ? 1 : 0);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = columns;
  at::Tensor out = at::empty(shape, x.options());
  const at::Tensor wide_bias =
      bias == nullptr ? at::Tensor() : bias->to(at::kFloat).contiguous();
  Product product = {
      .x = x.data_ptr<float>(),
      .x_stride = depth,
      .w_stride = weight.size(1),
      .is_in_out = is_in_out,
      .bias = bias == nullptr ? nullptr : wide_bias.data_ptr<float>(),
      .out = out.data_ptr<float>(),
      .out_stride = columns,
      .rows = x.numel() / depth,
      .columns = columns,
      .depth = depth};
  if (weight.scalar_type() == at::kFloat) {
    product.w = weight.data_ptr<float>();
  } else {
    product.w_bf16 =
        reinterpret_cast<const uint16_t*>(weight.data_ptr<at::BFloat16>());
    product.rounds_out = true;
  }
  Multiply(product);
  return out;
}

}  // namespace

bool RunsOnKernels(const at::Tensor& x) {
  return x.is_cpu() && !c10::GradMode::is_enabled();
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  const bool is_one_row = x.numel() == x.size(-1);
  const bool is_wide = weight->scalar_type() == at::kFloat;
  if (is_one_row && x.is_cpu() && is_wide) {
    return RowProduct(x.to(at::kFloat), is_in_out ? weight->t() : *weight,
                      bias);
  }
  if (CanMultiply(x, *weight)) {
    return KernelProduct(x.to(at::kFloat).contiguous(), *weight, is_in_out,
                         bias);
  }
  const at::Tensor in = x.to(weight->scalar_type());
  if (!is_in_out) return at::linear(in, *weight, OrNone(bias));
  const at::Tensor rows = in.reshape({-1, in.size(-1)});
  const at::Tensor out =
      bias == nullptr ? at::mm(rows, *weight) : at::addmm(*bias, rows, *weight);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight->size(1);
  return out.view(shape);
}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x.to(at::kFloat), {width}, gain->to(at::kFloat),
                        bias->to(at::kFloat), epsilon);
}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  const at::Tensor wide = x.to(at::kFloat);
  at::Tensor factors = gain->to(at::kFloat);
  if (adds_one) factors = factors + 1;
  if (RunsOnKernels(x)) {
    const at::Tensor in = wide.contiguous();
    at::Tensor out = at::empty(in.sizes(), in.options());
    const int64_t width = in.size(-1);
    RmsNormRows(in.data_ptr<float>(), factors.contiguous().data_ptr<float>(),
                in.numel() / width, width, static_cast<float>(epsilon),
                out.data_ptr<float>());
    return out;
  }
  const at::Tensor scale =
      at::rsqrt((wide * wide).mean(-1, /*keepdim=*/true) + epsilon);
  return wide * scale * factors;
}

at::Tensor Embed(const at::Tensor& table, const at::Tensor& ids) {
  return at::embedding(table, ids).to(at::kFloat);
}

absl::StatusOr<Activation> FindActivation(absl::string_view key,
                                          absl::string_view name) {
  std::string known;
  for (const auto& [candidate, function] : kActivations) {
    if (candidate == name) return function;
    absl::StrAppend(&known, known.empty() ? "" : ", ", candidate);
  }
  return UnsupportedConfig(absl::StrCat("`", key, "` `", name,
                                        "` is not supported; ", known, " are"));
}

at::Tensor ActivateGate(Activation activation, const at::Tensor& gate,
                        const at::Tensor& up) {
  const int64_t stride = gate.dim() == 3 ? gate.stride(1) : 0;
  if (activation == Silu && RunsOnKernels(gate) && HasRowsApart(gate, stride) &&
      HasRowsApart(up, stride)) {
    at::Tensor out = at::empty(gate.sizes(), gate.options());
    const int64_t width = gate.size(2);
    SiluProductRows(gate.data_ptr<float>(), up.data_ptr<float>(),
                    gate.size(0) * gate.size(1), width, stride,
                    out.data_ptr<float>());
    return out;
  }
  return activation(gate) * up;
}

at::Tensor SplitHeads(const at::Tensor& x, int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads})
      .transpose(1, 2);
}

at::Tensor PatchEmbeddings(const at::Tensor& pixels, const at::Tensor& weight,
                           const at::Tensor* bias) {
  const at::IntArrayRef stride = weight.sizes().slice(2);
  return at::conv2d(pixels.unsqueeze(0), weight, OrNone(bias), stride)
      .flatten(2)
      .transpose(1, 2);
}

ParameterScope ParameterScope::Under(absl::string_view name) const {
  return ParameterScope(table_, absl::StrCat(prefix_, name, "."));
}

ParameterScope ParameterScope::Under(absl::string_view name,
                                     int64_t index) const {
  return ParameterScope(table_, absl::StrCat(prefix_, name, ".", index, "."));
}

const at::Tensor* ParameterScope::Tensor(absl::string_view name,
                                         std::vector<int64_t> shape) const {
  return table_.Declare(absl::StrCat(prefix_, name), std::move(shape));
}

Linear ParameterScope::MakeLinear(absl::string_view name, int64_t in,
                                  int64_t out, Bias bias) const {
  const ParameterScope scope = Under(name);
  Linear linear = {.weight = scope.Tensor("weight", {out, in})};
  if (bias == Bias::kOne) linear.bias = scope.Tensor("bias", {out});
  return linear;
}

Linear ParameterScope::MakeConv1d(absl::string_view name, int64_t in,
                                  int64_t out) const {
  const ParameterScope scope = Under(name);
  const at::Tensor* weight = scope.Tensor("weight", {in, out});
  return {
      .weight = weight, .bias = scope.Tensor("bias", {out}), .is_in_out = true};
}

LayerNorm ParameterScope::MakeLayerNorm(absl::string_view name, int64_t width,
                                        double epsilon) const {
  const ParameterScope scope = Under(name);
  const at::Tensor* gain = scope.Tensor("weight", {width});
  return {.gain = gain,
          .bias = scope.Tensor("bias", {width}),
          .width = width,
          .epsilon = epsilon};
}

RmsNorm ParameterScope::MakeRmsNorm(absl::string_view name, int64_t width,
                                    double epsilon) const {
  return {.gain = Under(name).Tensor("weight", {width}), .epsilon = epsilon};
}

LanguageModel::Traits ReadTraits(ConfigReader& config, int64_t longest_input) {
  LanguageModel::Traits traits = {
      .limits = {.vocab_size = config.Size("vocab_size"),
                 .longest_input = longest_input},
      .prefix_ids = config.TokenIds("bos_token_id"),
      .end_ids = config.TokenIds("eos_token_id")};
  if (traits.prefix_ids.empty()) traits.prefix_ids = traits.end_ids;
  if (traits.prefix_ids.size() > 1) traits.prefix_ids.resize(1);
  return traits;
}

int64_t ReadLabels(ConfigReader& config) {
  const int64_t fall_back = config.Size("num_labels", 2);
  const JsonValue* names = config.Find("id2label");
  if (names == nullptr) return fall_back;
  if (names->as_object() == nullptr || names->as_object()->empty()) {
    config.Fail("id2label", "an object with a name for every class");
    return fall_back;
  }
  return static_cast<int64_t>(names->as_object()->size());
}

std::pair<int64_t, int64_t> ReadExtent(ConfigReader& config, const char* key,
                                       int64_t fall_back) {
  const JsonValue* value = config.Find(key);
  if (value == nullptr || value->as_array() == nullptr) {
    const int64_t size = config.Size(key, fall_back);
    return {size, size};
  }
  const std::vector<int64_t> sizes = config.TokenIds(key);
  if (sizes.size() == 2 && sizes[0] > 0 && sizes[1] > 0) {
    return {sizes[0], sizes[1]};
  }
  config.Fail(key, "a positive integer or two");
  return {1, 1};
}

void CheckHeads(ConfigReader& config, const char* key, int64_t width,
                int64_t heads) {
  if (width % heads == 0) return;
  config.Fail(key, absl::StrCat("a divisor of the width ", width));
}

std::string PrefixInUse(const ShapeMap& tensors, const std::string& prefix) {
  const bool is_used =
      tensors.empty() ||
      std::any_of(tensors.begin(), tensors.end(), [&](const auto& entry) {
        return absl::StartsWith(entry.first, prefix);
      });
  return is_used ? prefix : "";
}

}  // namespace cairn
