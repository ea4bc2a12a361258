#include "cuda/difficulty_quantile.h"
#include "cuda/few_values.h"

namespace spcl {
namespace on_device {
namespace {

template <class Keys>
__global__ void __launch_bounds__(kThreadsOfFew)
    difficulty_quantile_fwd_kernel(Ranking ranking, typename Keys::Bits* result) {
  const FewValues<Keys> values(ranking);
  if (threadIdx.x == 0) *result = Keys::bits(values.known > 0 ? values.threshold : Keys::nan);
}

}  // namespace
}  // namespace on_device

void difficulty_quantile_cuda(const Ranking& ranking, OrderWork* work, void* result, cudaStream_t stream) {
  using namespace on_device;
  if (ranking.count > kFewValues) return order_statistic_cuda(ranking, work, result, stream);
  with_float_type(ranking.values.type, [&]<class Stored>(Stored*) {
    typedef typename KeysOf<Stored>::Keys Keys;
    SPCL_LAUNCH(difficulty_quantile_fwd_kernel<Keys>, 1, kThreadsOfFew, 0, stream, ranking,
                static_cast<typename Keys::Bits*>(result));
  });
}

}  // namespace spcl
