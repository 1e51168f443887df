#ifndef CAIRN_MERGE_METHOD_METHOD_MAKERS_H_
#define CAIRN_MERGE_METHOD_METHOD_MAKERS_H_

#include "merge/method/tensor_method.h"

namespace cairn {

// What each file of a method offers the list in method_list.cc.
MethodSpec LinearMethod();
MethodSpec PassthroughMethod();
MethodSpec SlerpMethod();
MethodSpec NuslerpMethod();
MethodSpec MultislerpMethod();
MethodSpec KarcherMethod();
MethodSpec ModelStockMethod();
MethodSpec SceMethod();
MethodSpec RamMethod();
MethodSpec RamPlusMethod();
MethodSpec NearswapMethod();
MethodSpec ArceeFusionMethod();
MethodSpec GeometricMedianMethod();
MethodSpec TsvMethod();
MethodSpec SvcMethod();
MethodSpec KnotsMethod();
MethodSpec OpcmMethod();
MethodSpec RegmeanMethod();
MethodSpec FisherMethod();
MethodSpec DilocoMethod();
MethodSpec PcbMethod();
std::vector<MethodSpec> KrumMethods();
// TIES as the paper's code trims, elects and counts.
std::unique_ptr<TensorMethod> MakePaperTies(const MethodTask& task);
// Iso-C and Iso-CTS.
std::vector<MethodSpec> IsoMethods();
// MagMax, EMR, Consensus-TA, median and trimmed mean.
std::vector<MethodSpec> ElementwiseMethods();
// Task arithmetic, TIES, DARE, DELLA and Breadcrumbs.
std::vector<MethodSpec> TaskVectorMethods();

// Shorthands for parameters.
MethodParameter SharedNumber(absl::string_view name, double fallback,
                             double least, double most);
MethodParameter SharedBool(absl::string_view name, bool fallback);
MethodParameter OtherNumber(absl::string_view name,
                            std::optional<double> fallback, double least,
                            double most);

inline constexpr double kLargest = 1e30;

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_METHOD_MAKERS_H_
