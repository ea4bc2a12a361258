#include "cuda/launch.h"
#include "cuda/self_paced_step_backward.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 256;

/// Halves are rounded from float32, as torch rounds float64.
template <class Stored, class Real>
__device__ __forceinline__ Stored rounded(Real value) {
  if constexpr (sizeof(Stored) == 2) {
    return narrowed<Stored>(static_cast<float>(value));
  } else {
    return narrowed<Stored>(value);
  }
}

/// As many numbers as fill 16 bytes of the narrower type a thread, in loads and stores of 16 bytes; what is left at
/// the end, or all of it where an address is not a multiple of 16, one by one.
template <class Real, class Stored>
__global__ void __launch_bounds__(kThreads)
    self_paced_step_bwd_kernel(StepGradient gradient, Stored* result, int64_t pieces) {
  constexpr int size = 16 / (sizeof(Stored) < sizeof(Real) ? sizeof(Stored) : sizeof(Real));
  struct alignas(16) From {
    Real values[size];
  };
  struct alignas(16) To {
    Stored values[size];
  };
  const double norm = gradient.weight_sum == nullptr ? static_cast<double>(gradient.counts[1]) : *gradient.weight_sum;
  const Real factor = static_cast<Real>(gradient.grad_loss.at(0) / (norm > 0 ? norm : 1));
  const Real* values = static_cast<const Real*>(gradient.values);
  const int64_t threads = int64_t{gridDim.x} * kThreads, thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t p = thread; p < pieces; p += threads) {
    const From from = reinterpret_cast<const From*>(values)[p];
    To to;
#pragma unroll
    for (int k = 0; k < size; ++k) to.values[k] = rounded<Stored>(from.values[k] * factor);
    reinterpret_cast<To*>(result)[p] = to;
  }
  for (int64_t i = pieces * size + thread; i < gradient.count; i += threads) {
    result[i] = rounded<Stored>(values[i] * factor);
  }
}

template <class Real, class Stored>
void launch(const StepGradient& gradient, void* result, cudaStream_t stream) {
  constexpr int64_t size = 16 / (sizeof(Stored) < sizeof(Real) ? sizeof(Stored) : sizeof(Real));
  const bool aligned = (reinterpret_cast<uintptr_t>(gradient.values) | reinterpret_cast<uintptr_t>(result)) % 16 == 0;
  const int64_t pieces = aligned ? gradient.count / size : 0;
  const int64_t tasks = aligned ? parts_of(gradient.count, size) : gradient.count;
  SPCL_LAUNCH((self_paced_step_bwd_kernel<Real, Stored>), grid_of(parts_of(tasks, kThreads)), kThreads, 0, stream,
              gradient, static_cast<Stored*>(result), pieces);
}

}  // namespace
}  // namespace on_device

void self_paced_step_backward_cuda(const StepGradient& gradient, FloatType type, void* result, cudaStream_t stream) {
  if (gradient.count == 0) return;
  with_float_type(type, [&]<class Stored>(Stored*) {
    if (gradient.type == FloatType::kFloat64) {
      on_device::launch<double, Stored>(gradient, result, stream);
    } else {
      on_device::launch<float, Stored>(gradient, result, stream);
    }
  });
}

}  // namespace spcl
