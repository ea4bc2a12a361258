#include "cuda/pieces.h"
#include "cuda/self_paced_weights.h"
#include "cuda/weight_rule.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 256;

/// 16 bytes a thread; what is left at the end, or all of it where an address is not a multiple of 16, one by one.
template <class Real, Scheme scheme>
__global__ void __launch_bounds__(kThreads)
    self_paced_weights_fwd_kernel(const Real* difficulty, Real* weight, int64_t pieces, int64_t count,
                                  DeviceWeighting weighting) {
  constexpr int size = Piece<Real>::size;
  weighting.scheme = scheme;  // known now, so that the others are not compiled in
  const WeightRule<Real> weight_of(weighting);
  const int64_t threads = int64_t{gridDim.x} * kThreads, thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t p = thread; p < pieces; p += threads) {
    Piece<Real> piece = reinterpret_cast<const Piece<Real>*>(difficulty)[p];
#pragma unroll
    for (int k = 0; k < size; ++k) piece.values[k] = weight_of(piece.values[k]);
    reinterpret_cast<Piece<Real>*>(weight)[p] = piece;
  }
  for (int64_t i = pieces * size + thread; i < count; i += threads) weight[i] = weight_of(difficulty[i]);
}

template <class Real, Scheme scheme>
void launch(const void* difficulty, void* weight, int64_t count, const DeviceWeighting& weighting,
            cudaStream_t stream) {
  const int64_t pieces = whole_pieces<Real>(count, {difficulty, weight});
  const int64_t tasks = pieces > 0 ? parts_of(count, Piece<Real>::size) : count;
  SPCL_LAUNCH((self_paced_weights_fwd_kernel<Real, scheme>), grid_of(parts_of(tasks, kThreads)), kThreads, 0, stream,
              static_cast<const Real*>(difficulty), static_cast<Real*>(weight), pieces, count, weighting);
}

template <class Real>
void launch_scheme(const void* difficulty, void* weight, int64_t count, const DeviceWeighting& weighting,
                   cudaStream_t stream) {
  switch (weighting.scheme) {
    case Scheme::kHard:
      return launch<Real, Scheme::kHard>(difficulty, weight, count, weighting, stream);
    case Scheme::kLinear:
      return launch<Real, Scheme::kLinear>(difficulty, weight, count, weighting, stream);
    case Scheme::kLogistic:
      return launch<Real, Scheme::kLogistic>(difficulty, weight, count, weighting, stream);
    case Scheme::kLog:
      return launch<Real, Scheme::kLog>(difficulty, weight, count, weighting, stream);
    case Scheme::kMixture:
      return launch<Real, Scheme::kMixture>(difficulty, weight, count, weighting, stream);
    case Scheme::kPolynomial:
      return launch<Real, Scheme::kPolynomial>(difficulty, weight, count, weighting, stream);
    case Scheme::kSuperLoss:
      return launch<Real, Scheme::kSuperLoss>(difficulty, weight, count, weighting, stream);
    case Scheme::kGiven:
      return launch<Real, Scheme::kGiven>(difficulty, weight, count, weighting, stream);
    case Scheme::kPolynomialOfCurml:
      return launch<Real, Scheme::kPolynomialOfCurml>(difficulty, weight, count, weighting, stream);
    case Scheme::kSpld:
      break;  // has been refused
  }
}

}  // namespace
}  // namespace on_device

void self_paced_weights_cuda(FloatType type, const void* difficulty, void* weight, int64_t count,
                             const DeviceWeighting& weighting, cudaStream_t stream) {
  if (count == 0) return;
  if (type == FloatType::kFloat64) {
    on_device::launch_scheme<double>(difficulty, weight, count, weighting, stream);
  } else {
    on_device::launch_scheme<float>(difficulty, weight, count, weighting, stream);
  }
}

}  // namespace spcl
