#include "cuda/math.h"
#include "cuda/multiview_hardness.h"
#include "cuda/reduce.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
/// Blocks whose bounds every block of the second launch reads.
constexpr int64_t kMostBlocks = 1024;
/// Pieces of a row that a lane holds in registers; of longer rows it reads them again.
constexpr int kHeld = 2;

template <class Stored>
constexpr int kPiece = 16 / static_cast<int>(sizeof(Stored));

/// How many numbers of a row piece `piece` has: the last one may have fewer than the others.
template <class Stored, bool whole>
__device__ __forceinline__ int size_of_piece(int64_t piece, int64_t columns) {
  const int64_t left = columns - piece * kPiece<Stored>;
  return whole || left > kPiece<Stored> ? kPiece<Stored> : static_cast<int>(left);
}

/// Loads a piece of a row: 16 bytes at once, or number by number. A lane has the same pieces either way, so that how
/// the rows lie in memory changes no bit.
template <class Stored, bool whole, class Real>
__device__ __forceinline__ void load_piece(const char* row, int64_t stride, int64_t piece, int count,
                                           Real (&values)[kPiece<Stored>]) {
  if constexpr (whole) {
    alignas(16) Stored stored[kPiece<Stored>];
    *reinterpret_cast<uint4*>(stored) = reinterpret_cast<const uint4*>(row)[piece];
#pragma unroll
    for (int i = 0; i < kPiece<Stored>; ++i) values[i] = widened(stored[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kPiece<Stored>; ++i) {
      if (i < count) values[i] = load<Stored>(row + (piece * kPiece<Stored> + i) * stride);
    }
  }
}

/// sum_f (r - x)^2 of a row, by a warp; every lane gets it. Without a target x is 0.
template <class Stored, bool whole>
__device__ __forceinline__ typename Computed<Stored>::Real squared_error(const HardnessOnDevice::Source& reconstruction,
                                                                         const HardnessOnDevice::Source& target,
                                                                         int64_t row, int64_t width) {
  typedef typename Computed<Stored>::Real Real;
  const char* r = reconstruction.data + row * reconstruction.row_stride;
  const char* x = target.data + row * target.row_stride;
  Real sum = 0;
#pragma unroll 2
  for (int64_t piece = threadIdx.x % 32; piece < parts_of(width, kPiece<Stored>); piece += 32) {
    const int count = size_of_piece<Stored, whole>(piece, width);
    Real values[kPiece<Stored>], others[kPiece<Stored>] = {};
    load_piece<Stored, whole>(r, reconstruction.class_stride, piece, count, values);
    if (target.data != nullptr) load_piece<Stored, whole>(x, target.class_stride, piece, count, others);
#pragma unroll
    for (int i = 0; i < kPiece<Stored>; ++i) {
      if (i < count) sum = multiply_add(values[i] - others[i], values[i] - others[i], sum);
    }
  }
  return sum_of_group<32>(sum);
}

__device__ __forceinline__ float tail_of(float u) {
  return tail_factor(u, [](float a, float b, float c) { return multiply_add(a, b, c); });
}
__device__ __forceinline__ double tail_of(double u) { return log1p(u) / u; }

/// The sums that make the entropy proxy of a row (`entropy_of_sums`), by a warp; every lane gets them.
template <class Real>
struct EntropySums {
  Real total, sum, moment, tail;
};

/// `held` pieces are in the registers of a lane; 0: any number of them, read again each time.
template <class Stored, bool whole, int held>
__device__ __forceinline__ EntropySums<typename Computed<Stored>::Real> entropy_sums(const char* row, int64_t stride,
                                                                                     int64_t units) {
  typedef typename Computed<Stored>::Real Real;
  const int64_t lane = threadIdx.x % 32, pieces = parts_of(units, kPiece<Stored>);
  Real values[held > 0 ? held : 1][kPiece<Stored>];
  if constexpr (held > 0) {
#pragma unroll
    for (int k = 0; k < held; ++k) {
      if (lane + 32 * k < pieces) load_piece<Stored, whole>(row, stride, lane + 32 * k, kPiece<Stored>, values[k]);
    }
  }
  const auto each = [&](const auto& visit) {
    if constexpr (held > 0) {
#pragma unroll
      for (int k = 0; k < held; ++k) {
        if (lane + 32 * k >= pieces) continue;
#pragma unroll
        for (int i = 0; i < kPiece<Stored>; ++i) visit(values[k][i]);
      }
    } else {
#pragma unroll 1
      for (int64_t piece = lane; piece < pieces; piece += 32) {
        const int count = size_of_piece<Stored, whole>(piece, units);
        load_piece<Stored, whole>(row, stride, piece, count, values[0]);
#pragma unroll
        for (int i = 0; i < kPiece<Stored>; ++i) {
          if (i < count) visit(values[0][i]);
        }
      }
    }
  };

  Real top = -infinity_of<Real>();
  each([&](Real x) { top = larger(x, top); });
  top = over_lanes<32>(top, [](Real a, Real b) { return larger(a, b); });
  EntropySums<Real> sums{};
  Real least = 1;
  each([&](Real x) {
    const Real shift = bounded_shift(x - top), e = exp_of_shift(shift);
    sums.total += e;
    sums.moment = multiply_add(e, shift, sums.moment);
    least = e < least ? e : least;
  });
  sums.total = sum_of_group<32>(sums.total);
  // Where no probability is below the larger of 1e-6 and 4e-8 F, nothing is clamped, and log1p(u) / u taken as 1 leaves
  // the entropy right to 1.3e-7.
  if constexpr (sizeof(Real) == sizeof(float)) {
    least = over_lanes<32>(least, [](Real a, Real b) { return a < b ? a : b; });
    const Real few = 4e-8f * static_cast<Real>(units);
    if (least >= sums.total * larger(few, static_cast<Real>(kSmallestProbability))) {
      sums.sum = sums.total;
      sums.moment = sum_of_group<32>(sums.moment);
      sums.tail = static_cast<Real>(units);
      return sums;
    }
  }
  const Real floor = static_cast<Real>(kSmallestProbability) * sums.total, log_floor = log_of(floor);
  const Real scale = static_cast<Real>(kAddedProbability) * sums.total;
  sums.moment = 0;
  each([&](Real x) {
    const Real shift = bounded_shift(x - top), e = larger(exp_of_shift(shift), floor);
    sums.sum += e;
    sums.moment = multiply_add(e, larger(shift, log_floor), sums.moment);
    sums.tail += tail_of(scale / e);
  });
  sums.sum = sum_of_group<32>(sums.sum);
  sums.moment = sum_of_group<32>(sums.moment);
  sums.tail = sum_of_group<32>(sums.tail);
  return sums;
}

/// The information of an utterance, by a warp: each lane finishes the entropy of one row.
template <class Stored, int held>
__device__ __forceinline__ double information_of(const HardnessOnDevice& call, int64_t t) {
  typedef typename Computed<Stored>::Real Real;
  const int lane = static_cast<int>(threadIdx.x % 32);
  double information = 0;
#pragma unroll 1
  for (int64_t first = 0; first < call.rows; first += 32) {
    EntropySums<Real> own{1, 0, 0, 0};
    double weight = 0;
#pragma unroll 1
    for (int64_t r = first; r < call.rows && r < first + 32; ++r) {
      const HardnessOnDevice::Source& source = call.hidden[r];
      const char* row = source.data + t * source.row_stride;
      EntropySums<Real> sums;
      if (held > 0 || call.hidden_pieces) {
        sums = entropy_sums<Stored, true, held>(row, source.class_stride, call.units);
      } else {
        sums = entropy_sums<Stored, false, 0>(row, source.class_stride, call.units);
      }
      if (lane != r - first) continue;
      own = sums;
      weight = r < call.modalities ? static_cast<double>(call.modalities - 1) : -1.0;  // a modality is in M - 1 pairs
    }
    const double H = entropy_of_sums(log(static_cast<double>(own.total)), own.total, own.sum, own.moment, own.tail);
    information += sum_of_group<32>(rounded_product(weight, H));
  }
  return information;
}

/// Number k of bounds: the smallest of what has an even number, the largest of what has an odd one.
__device__ __forceinline__ double no_bound(int k) {
  return k % 2 == 0 ? infinity_of<double>() : -infinity_of<double>();
}
__device__ __forceinline__ double wider(int k, double a, double b) { return (k % 2 == 0 ? b < a : b > a) ? b : a; }

/// A warp an utterance. Where pieces of a row are held, all rows go by 16 bytes.
template <class Stored, int held>
__global__ void __launch_bounds__(kThreads, held == 0 || sizeof(Stored) == 8 ? 2 : (sizeof(Stored) == 2 ? 3 : 4))
    multiview_hardness_fwd_kernel(const __grid_constant__ HardnessOnDevice call, double* block_ends) {
  typedef typename Computed<Stored>::Real Real;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  double end = no_bound(lane % 4);  // lane k has number k
  const int64_t warps = int64_t{gridDim.x} * kWarps;
#pragma unroll 1
  for (int64_t t = int64_t{blockIdx.x} * kWarps + warp; t < call.utterances; t += warps) {
    Real d = nan_of<Real>(), g = d;
    if (call.valid.at(0, t)) {
      double direct = 0;
#pragma unroll 1
      for (int64_t m = 0; m < call.modalities; ++m) {
        if (call.present.at(m, t)) continue;
        const HardnessOnDevice::Source &r = call.reconstruction[m], &x = call.target[m];
        const int64_t width = call.widths[m];
        const Real sum = held > 0 || call.error_pieces[m] ? squared_error<Stored, true>(r, x, t, width)
                                                          : squared_error<Stored, false>(r, x, t, width);
        direct += static_cast<double>(sum) / static_cast<double>(width);
      }
      d = static_cast<Real>(direct / static_cast<double>(call.modalities));
      g = static_cast<Real>(rounded_product(call.sign, information_of<Stored, held>(call, t)) + 0.0);  // no -0
    }
    constexpr Real infinity = static_cast<Real>(__builtin_inf());
    const bool counts = d < infinity && g < infinity && g > -infinity;
    if (lane == 0) {
      static_cast<Real*>(call.direct)[t] = counts ? d : nan_of<Real>();
      static_cast<Real*>(call.information)[t] = counts ? g : nan_of<Real>();
    }
    if (counts) end = wider(lane % 4, end, static_cast<double>(lane % 4 < 2 ? d : g));
  }
  using Ends = double[kWarps][4];
  SPCL_SHARED(Ends, of_warps);
  if (lane < 4) of_warps[warp][lane] = end;
  __syncthreads();
  if (threadIdx.x >= 4) return;
  for (int w = 1; w < kWarps; ++w) end = wider(lane, end, of_warps[w][lane]);  // of the first warp it has its own
  block_ends[int64_t{blockIdx.x} * 4 + threadIdx.x] = end;
}

/// The hardness of each utterance, by the scaling that is given or by the bounds of `blocks` blocks.
template <class Real>
__global__ void __launch_bounds__(kThreads)
    multiview_hardness_of_parts_kernel(const __grid_constant__ HardnessOnDevice call, const double* block_ends,
                                       int64_t blocks) {
  const int k = static_cast<int>(threadIdx.x % 4), warp = static_cast<int>(threadIdx.x / 32);
  double end = no_bound(k);
  for (int64_t b = threadIdx.x / 4; b < blocks; b += kThreads / 4) end = wider(k, end, block_ends[b * 4 + k]);
#pragma unroll
  for (int half = 16; half >= 4; half /= 2) end = wider(k, end, __shfl_xor_sync(kWholeWarp, end, half));
  using Ends = double[kWarps][4];
  SPCL_SHARED(Ends, of_warps);
  if (threadIdx.x % 32 < 4) of_warps[warp][k] = end;
  __syncthreads();
  double ends[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    ends[i] = of_warps[0][i];
    for (int w = 1; w < kWarps; ++w) ends[i] = wider(i, ends[i], of_warps[w][i]);
    if (call.scaling.data != nullptr) ends[i] = call.scaling.at(i);
    if (blockIdx.x == 0 && threadIdx.x == 0) call.ends[i] = ends[i];
  }
  const HardnessRule rule = HardnessRule::of(ends, call.slope, call.direct_weight, call.information_weight);
  const int64_t threads = int64_t{gridDim.x} * kThreads;
  for (int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x; t < call.utterances; t += threads) {
    const double h = hardness_of_parts(
        static_cast<double>(static_cast<const Real*>(call.direct)[t]),
        static_cast<double>(static_cast<const Real*>(call.information)[t]), rule,
        [](double a, double b) { return rounded_product(a, b); }, [](double x) { return exp(x); });
    static_cast<Real*>(call.hardness)[t] = static_cast<Real>(h);
  }
}

int64_t blocks_of(const HardnessOnDevice& call) { return grid_of(parts_of(call.utterances, kWarps), kMostBlocks); }

}  // namespace
}  // namespace on_device

int64_t multiview_hardness_bytes(const HardnessOnDevice& call) { return on_device::blocks_of(call) * 32; }

void multiview_hardness_cuda(const HardnessOnDevice& call, void* workspace, cudaStream_t stream) {
  using namespace on_device;
  const auto blocks = static_cast<unsigned>(blocks_of(call));
  auto* const block_ends = static_cast<double*>(workspace);
  if (blocks > 0) {
    with_float_type(call.type, [&]<class Stored>(Stored*) {
      bool held = call.hidden_pieces && call.units <= 32 * kHeld * kPiece<Stored>;
      for (int64_t m = 0; m < call.modalities; ++m) held = held && call.error_pieces[m];
      const auto kernel =
          held ? multiview_hardness_fwd_kernel<Stored, kHeld> : multiview_hardness_fwd_kernel<Stored, 0>;
      SPCL_LAUNCH(kernel, blocks, kThreads, 0, stream, call, block_ends);
    });
  }
  const unsigned second = grid_of(parts_of(call.utterances > 0 ? call.utterances : 1, kThreads), kMostBlocks);
  if (call.type == FloatType::kFloat64) {
    SPCL_LAUNCH(multiview_hardness_of_parts_kernel<double>, second, kThreads, 0, stream, call, block_ends, blocks);
  } else {
    SPCL_LAUNCH(multiview_hardness_of_parts_kernel<float>, second, kThreads, 0, stream, call, block_ends, blocks);
  }
}

}  // namespace spcl
