#include "merge/model/torch_script_graph.h"

#include <ATen/ATen.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

namespace jit = torch::jit;

absl::Status Refused(absl::string_view what) {
  return ReasonedError(absl::StatusCode::kUnimplemented, "UNSUPPORTED",
                       absl::StrCat("torchscript.pt ", what));
}

// Gives libtorch's reader the bytes of a source.
class SourceAdapter final : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit SourceAdapter(SharedSource source) : source_(std::move(source)) {}
  size_t size() const override { return static_cast<size_t>(source_->size()); }
  size_t read(uint64_t position, void* buffer, size_t count,
              const char*) const override {
    const absl::Status status =
        source_->ReadAt(static_cast<int64_t>(position),
                        absl::MakeSpan(static_cast<char*>(buffer), count));
    // libtorch takes a short read for a damaged archive.
    return status.ok() ? count : 0;
  }

 private:
  const SharedSource source_;
};

// Operators that reach beyond their inputs: files, chance, what is printed,
// other threads, the module's own state, code that is not in the graph.
bool IsForbidden(c10::Symbol kind) {
  if (!kind.is_aten() && !kind.is_prim()) return true;
  constexpr std::array<absl::string_view, 9> kPrim = {
      "CallFunction", "CallMethod", "Closure",   "Print",    "PythonOp",
      "SetAttr",      "fork",       "awaitable", "rpc_async"};
  constexpr std::array<absl::string_view, 16> kAten = {
      "bernoulli", "binomial",    "cauchy", "exponential",
      "from_file", "geometric",   "load",   "log_normal",
      "manual",    "multinomial", "normal", "poisson",
      "rand",      "save",        "seed",   "uniform"};
  const absl::string_view name = kind.toUnqualString();
  if (kind.is_prim()) {
    return std::find(kPrim.begin(), kPrim.end(), name) != kPrim.end();
  }
  return std::any_of(kAten.begin(), kAten.end(), [&](absl::string_view start) {
    return absl::StartsWith(name, start);
  });
}

// Dropout that is not known to be off.
bool Drops(const jit::Node& node) {
  const absl::string_view name = node.kind().toUnqualString();
  if (!node.kind().is_aten() || !absl::StrContains(name, "dropout")) {
    return false;
  }
  if (node.inputs().size() < 3) return true;
  const auto is_training = jit::toIValue(node.inputs()[2]);
  return !is_training.has_value() || !is_training->isBool() ||
         is_training->toBool();
}

absl::Status CheckNodes(const jit::Block& block) {
  for (const jit::Node* node : block.nodes()) {
    if (IsForbidden(node->kind()) || Drops(*node)) {
      return Refused(absl::StrCat(
          "uses ", node->kind().toQualString(),
          "; a model computes from its input and its parameters alone: trace "
          "it in eval() mode, with torch.jit.trace"));
    }
    for (const jit::Block* inner : node->blocks()) {
      CAIRN_RETURN_IF_ERROR(CheckNodes(*inner));
    }
  }
  return absl::OkStatus();
}

// Turns every tensor that a graph takes out of its module into an input of
// the graph, and every other attribute into a constant.
class Lowering {
 public:
  // `index`: places of the module's tensors by name.
  Lowering(jit::Graph& graph, const std::map<std::string, size_t>& index)
      : graph_(graph), index_(index) {}

  absl::Status Run(const jit::Module& module) {
    objects_[graph_.inputs()[0]] = {module._ivalue(), ""};
    CAIRN_RETURN_IF_ERROR(Visit(*graph_.block()));
    for (auto node = done_.rbegin(); node != done_.rend(); ++node) {
      if (!(*node)->output()->hasUses()) (*node)->destroy();
    }
    if (graph_.inputs()[0]->hasUses()) {
      return Refused("does more with its module than to take its tensors");
    }
    graph_.eraseInput(0);
    return absl::OkStatus();
  }

  // Which tensors the new inputs are, in their order.
  const std::vector<size_t>& taken() const { return taken_; }

 private:
  struct Object {
    c10::intrusive_ptr<c10::ivalue::Object> value;
    std::string prefix;
  };

  absl::Status Visit(jit::Block& block) {
    for (jit::Node* node : block.nodes()) {
      for (jit::Block* inner : node->blocks()) {
        CAIRN_RETURN_IF_ERROR(Visit(*inner));
      }
      if (node->kind() != c10::prim::GetAttr) continue;
      const auto object = objects_.find(node->input());
      if (object == objects_.end()) continue;
      CAIRN_RETURN_IF_ERROR(Take(*node, Object(object->second)));
    }
    return absl::OkStatus();
  }

  absl::Status Take(jit::Node& node, const Object& object) {
    const std::string& attribute = node.s(c10::attr::name);
    const std::string name = object.prefix + attribute;
    const c10::IValue value = object.value->getAttr(attribute);
    done_.push_back(&node);
    if (value.isObject()) {
      objects_[node.output()] = {value.toObject(), name + "."};
      return absl::OkStatus();
    }
    const auto known = index_.find(name);
    if (value.isTensor() && known != index_.end()) {
      node.output()->replaceAllUsesWith(InputFor(known->second));
      return absl::OkStatus();
    }
    const jit::WithInsertPoint before(&node);
    const c10::optional<jit::Value*> constant =
        jit::tryInsertConstant(graph_, value);
    if (!constant.has_value()) {
      return Refused(absl::StrCat("has an attribute ", name,
                                  ", which is neither tensor nor constant"));
    }
    node.output()->replaceAllUsesWith(*constant);
    return absl::OkStatus();
  }

  jit::Value* InputFor(size_t tensor) {
    jit::Value*& input = inputs_[tensor];
    if (input == nullptr) {
      input = graph_.addInput();
      taken_.push_back(tensor);
    }
    return input;
  }

  jit::Graph& graph_;
  const std::map<std::string, size_t>& index_;
  std::map<const jit::Value*, Object> objects_;
  std::map<size_t, jit::Value*> inputs_;
  std::vector<size_t> taken_;
  std::vector<jit::Node*> done_;
};

bool IsSameTensor(const at::Tensor& a, const at::Tensor& b) {
  return a.numel() > 0 && a.data_ptr() == b.data_ptr() &&
         a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.scalar_type() == b.scalar_type();
}

std::vector<TorchScriptGraph::Tensor> TensorsOf(const jit::Module& module) {
  std::vector<TorchScriptGraph::Tensor> out;
  std::vector<at::Tensor> values;
  const auto add = [&](const std::string& name, const at::Tensor& value,
                       bool is_parameter) {
    size_t same = 0;
    while (same < out.size() && !IsSameTensor(values[same], value)) ++same;
    values.push_back(value);
    out.push_back({.name = name,
                   .shape = value.sizes().vec(),
                   .dtype = value.scalar_type(),
                   .is_parameter = is_parameter,
                   .value = is_parameter ? at::Tensor() : value,
                   .same_as = same});
  };
  for (const auto& entry : module.named_parameters(/*recurse=*/true)) {
    add(entry.name, entry.value, true);
  }
  for (const auto& entry : module.named_buffers(/*recurse=*/true)) {
    if (entry.value.defined()) add(entry.name, entry.value, false);
  }
  return out;
}

// What a model gives: logits, alone or in front of other things.
at::Tensor FirstTensor(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor();
  if (value.isTuple() && !value.toTupleRef().elements().empty()) {
    return FirstTensor(value.toTupleRef().elements()[0]);
  }
  if (value.isTensorList() && value.toTensorList().size() > 0) {
    return value.toTensorList().get(0);
  }
  if (value.isGenericDict() && value.toGenericDict().contains("logits")) {
    return FirstTensor(value.toGenericDict().at("logits"));
  }
  return at::Tensor();
}

}  // namespace

absl::Status TorchScriptGraph::Read(SharedSource file) {
  jit::Module module = jit::load(
      std::make_shared<SourceAdapter>(std::move(file)), at::Device(at::kCPU));
  module.eval();
  const auto forward = module.find_method("forward");
  if (!forward.has_value()) return Refused("has no method forward");
  tensors_ = TensorsOf(module);
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < tensors_.size(); ++i) index[tensors_[i].name] = i;
  if (std::none_of(tensors_.begin(), tensors_.end(),
                   [](const Tensor& tensor) { return tensor.is_parameter; })) {
    return Refused(
        "has no parameters to replace; save it without torch.jit.freeze");
  }
  const std::shared_ptr<jit::Graph> graph = forward->graph()->copy();
  jit::Inline(*graph);
  Lowering lowering(*graph, index);
  CAIRN_RETURN_IF_ERROR(lowering.Run(module));
  CAIRN_RETURN_IF_ERROR(CheckNodes(*graph->block()));
  taken_ = lowering.taken();
  inputs_ = graph->inputs().size() - taken_.size();
  jit::EliminateDeadCode(graph);
  const jit::AliasDb aliases(graph);
  for (const jit::Value* input : graph->inputs()) {
    if (aliases.hasWriters(input)) {
      return Refused("changes its input or its own tensors in place");
    }
  }
  if (graph->outputs().size() != 1) return Refused("gives nothing");
  code_ = jit::Code(graph, "forward");
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TorchScriptGraph>> TorchScriptGraph::Load(
    SharedSource file) {
  std::shared_ptr<TorchScriptGraph> out(new TorchScriptGraph());
  const absl::Status read =
      CatchTorch("loading", [&] { return out->Read(std::move(file)); });
  if (absl::IsInternal(read)) {
    return ReasonedError(
        absl::StatusCode::kDataLoss, "MALFORMED_FILE",
        absl::StrCat("torchscript.pt is no TorchScript module that this "
                     "version of libtorch reads: ",
                     read.message()),
        {{"file", "torchscript.pt"}});
  }
  if (!read.ok()) return read;
  return std::shared_ptr<const TorchScriptGraph>(std::move(out));
}

at::Tensor TorchScriptGraph::Run(const std::vector<at::Tensor>& inputs,
                                 const std::vector<at::Tensor>& values) const {
  torch::jit::Stack stack(inputs.begin(), inputs.end());
  for (const size_t tensor : taken_) stack.emplace_back(values[tensor]);
  jit::InterpreterState(code_).run(stack);
  const at::Tensor out =
      stack.empty() ? at::Tensor() : FirstTensor(stack.front());
  TORCH_CHECK(out.defined(),
              "torchscript.pt gives no tensor of logits: forward should "
              "return it, first in a tuple, or as `logits` of a dictionary");
  return out;
}

}  // namespace cairn
