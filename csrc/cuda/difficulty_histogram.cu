#include "cuda/difficulty_histogram.h"
#include "cuda/digit_counts.h"

namespace spcl {
namespace on_device {
namespace {

template <class Keys>
__global__ void __launch_bounds__(kCountingThreads)
    difficulty_histogram_fwd_kernel(Numbers values, int64_t count, bool pieces, Digit digit, const int64_t* prefix,
                                    unsigned long long* histogram) {
  const auto range = keys_below<Keys>(static_cast<uint64_t>(*prefix), digit);
  if (!range.is_empty) count_digits<Keys>(values, count, pieces, digit, range, histogram);
}

template <class Keys>
void launch(const HistogramInput& input, const int64_t* prefix, int64_t* histogram, cudaStream_t stream) {
  const Numbers values{input.values.data, input.values.type, input.values.row_stride};
  SPCL_LAUNCH(difficulty_histogram_fwd_kernel<Keys>, counting_grid<Keys>(input.count), kCountingThreads, 0, stream,
              values, input.count, has_pieces<Keys>(values), input.digit, prefix,
              reinterpret_cast<unsigned long long*>(histogram));
}

}  // namespace
}  // namespace on_device

void difficulty_histogram_cuda(const HistogramInput& input, const int64_t* prefix, int64_t* histogram,
                               cudaStream_t stream) {
  using namespace on_device;
  if (input.count == 0) return;
  if (input.are_integers) return launch<Int64Keys>(input, prefix, histogram, stream);
  with_float_type(input.values.type, [&]<class Stored>(Stored*) {
    launch<typename KeysOf<Stored>::Keys>(input, prefix, histogram, stream);
  });
}

}  // namespace spcl
