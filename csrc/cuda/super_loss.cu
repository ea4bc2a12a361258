#include "cuda/pieces.h"
#include "cuda/super_loss.h"
#include "cuda/weight_rule.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 256;

template <class Real>
__device__ __forceinline__ void super_loss_of(Real loss, const SuperLossRule<Real>& rule, Real& value, Real& weight) {
  weight = super_loss_weight(loss, rule, [](Real x) { return log_of(x); }, [](Real x) { return sqrt(x); });
  value = super_loss_value(loss, weight, rule);
}

/// 16 bytes a thread; what is left at the end, or all of it where an address is not a multiple of 16, one by one.
template <class Real>
__global__ void __launch_bounds__(kThreads)
    super_loss_fwd_kernel(const Real* loss, Real* value, Real* weight, int64_t pieces, int64_t count,
                          DeviceWeighting weighting) {
  constexpr int size = Piece<Real>::size;
  const SuperLossRule<Real> rule(weighting.threshold(), weighting.parameter);
  const int64_t threads = int64_t{gridDim.x} * kThreads, thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t p = thread; p < pieces; p += threads) {
    const Piece<Real> own = reinterpret_cast<const Piece<Real>*>(loss)[p];
    Piece<Real> values, weights;
#pragma unroll
    for (int k = 0; k < size; ++k) super_loss_of(own.values[k], rule, values.values[k], weights.values[k]);
    reinterpret_cast<Piece<Real>*>(value)[p] = values;
    reinterpret_cast<Piece<Real>*>(weight)[p] = weights;
  }
  for (int64_t i = pieces * size + thread; i < count; i += threads) super_loss_of(loss[i], rule, value[i], weight[i]);
}

template <class Real>
void launch(const void* loss, void* value, void* weight, int64_t count, const DeviceWeighting& weighting,
            cudaStream_t stream) {
  const int64_t pieces = whole_pieces<Real>(count, {loss, value, weight});
  const int64_t tasks = pieces > 0 ? parts_of(count, Piece<Real>::size) : count;
  SPCL_LAUNCH(super_loss_fwd_kernel<Real>, grid_of(parts_of(tasks, kThreads)), kThreads, 0, stream,
              static_cast<const Real*>(loss), static_cast<Real*>(value), static_cast<Real*>(weight), pieces, count,
              weighting);
}

}  // namespace
}  // namespace on_device

void super_loss_cuda(FloatType type, const void* loss, void* value, void* weight, int64_t count,
                     const DeviceWeighting& weighting, cudaStream_t stream) {
  if (count == 0) return;
  if (type == FloatType::kFloat64) {
    on_device::launch<double>(loss, value, weight, count, weighting, stream);
  } else {
    on_device::launch<float>(loss, value, weight, count, weighting, stream);
  }
}

}  // namespace spcl
