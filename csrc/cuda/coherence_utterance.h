#pragma once

// One utterance of `window_coherence`, by a warp in float64: any number of modalities, any strides and magnitudes.
//
// With the unit vectors u and their sum S, the cosines of all pairs add up to (|S|^2 - n) / 2, and those of u_m with
// the others to u_m S - 1. So nothing is done pair by pair.

#include <type_traits>

#include "cuda/math.h"
#include "cuda/reduce.h"
#include "cuda/window_coherence.h"

namespace spcl {
namespace on_device {

/// Where the vectors of a gradient are: contiguous, [M, T, F].
template <class Stored>
struct GradientRows {
  Stored* data;
  int64_t rows, columns;

  __device__ __forceinline__ Stored* row(int64_t m, int64_t t) const { return data + (m * rows + t) * columns; }
};

/// A number of the gradient, rounded.
template <class Stored>
__device__ __forceinline__ Stored rounded(double value) {
  return narrowed<Stored>(static_cast<typename Computed<Stored>::Real>(value));
}

/// All lanes of a warp call every function together.
template <class Stored, bool of_predictions>
class WarpUtterance {
 public:
  typedef typename Computed<Stored>::Real Real;

  /// Numbers of shared memory a warp needs.
  SPCL_HD static int64_t numbers(int64_t modalities) { return 3 * modalities; }

  __device__ __forceinline__ WarpUtterance(const CoherenceRows& rows, int64_t t, double* memory)
      : rows_(rows),
        t_(t),
        modalities_(rows.sources.modalities),
        columns_(rows.sources.columns),
        shift_(memory),
        inverse_(memory + modalities_),
        along_(memory + 2 * modalities_),
        lane_(static_cast<int>(threadIdx.x % 32)) {}

  __device__ __forceinline__ double coherence() {
    judge();
    if (faulty_) return faulty_coherence();
    if (usable_ < 2) return undefined_coherence();
    double square = 0;
#pragma unroll 1
    for (int64_t f = lane_; f < columns_; f += 32) {
      const double sum = sum_of_units(f);
      square = multiply_add(sum, sum, square);
    }
    const double n = usable_, c = (sum_of_group<32>(square) - n) / (n * (n - 1));
    return cosine(c, 1.0, 1.0);  // clamped as each of its terms
  }

  /// Writes the gradient of every vector, given that in the coherence: zeros where there is none.
  __device__ __forceinline__ void write_gradient(double of_c, const GradientRows<Stored>& gradient) {
    judge();
    const double n = usable_;
    const bool has_gradient = !faulty_ && usable_ >= 2;
    const double share = has_gradient ? of_c / (n * (n - 1) / 2) : 0;
#pragma unroll 1
    for (int64_t m = 0; has_gradient && m < modalities_; ++m) {
      double product = 0;
      if (inverse_[m] != 0) {
#pragma unroll 1
        for (int64_t f = lane_; f < columns_; f += 32) product = multiply_add(unit(m, f), sum_of_units(f), product);
      }
      product = sum_of_group<32>(product);
      if (lane_ == 0) along_[m] = product;
    }
    __syncwarp();
#pragma unroll 1
    for (int64_t f = lane_; f < columns_; f += 32) {
      const double sum = has_gradient ? sum_of_units(f) : 0;
#pragma unroll 1
      for (int64_t m = 0; m < modalities_; ++m) {
        double value = 0;
        if (has_gradient && inverse_[m] != 0) {
          value = share * (sum - along_[m] * unit(m, f)) * inverse_[m];
          value *= of_predictions ? number(m, f) : shift_[m];
        }
        gradient.row(m, t_)[f] = rounded<Stored>(value);
      }
    }
  }

 private:
  __device__ __forceinline__ Real stored(int64_t m, int64_t f) const {
    const Sources::Source source = rows_.sources.modality(m);
    return load<Stored>(source.data + t_ * source.row_stride + f * source.class_stride);
  }
  /// A component of a vector: scaled, or e^(logit - maximum).
  __device__ __forceinline__ double number(int64_t m, int64_t f) const {
    if constexpr (of_predictions) return exp_of(stored(m, f) - static_cast<Real>(shift_[m]));
    return stored(m, f) * shift_[m];
  }
  __device__ __forceinline__ double unit(int64_t m, int64_t f) const { return number(m, f) * inverse_[m]; }

  __device__ __forceinline__ double sum_of_units(int64_t f) const {
    double sum = 0;
#pragma unroll 1
    for (int64_t m = 0; m < modalities_; ++m) {
      if (inverse_[m] != 0) sum += unit(m, f);
    }
    return sum;
  }

  /// The largest number of a row, or the largest magnitude of an embedding; NaN where there is one.
  __device__ __forceinline__ double largest(int64_t m) const {
    Real most = of_predictions ? -infinity_of<Real>() : Real(0);
#pragma unroll 1
    for (int64_t f = lane_; f < columns_; f += 32) {
      Real value = stored(m, f);
      if (!of_predictions && value < 0) value = -value;
      most = most > value || most != most ? most : value;
    }
    return max_of_group<32>(most);
  }

  __device__ __forceinline__ double squared_norm(int64_t m, double shift) const {
    double square = 0;
#pragma unroll 1
    for (int64_t f = lane_; f < columns_; f += 32) {
      const double value =
          of_predictions ? static_cast<double>(exp_of(stored(m, f) - static_cast<Real>(shift))) : stored(m, f) * shift;
      square = multiply_add(value, value, square);
    }
    return sum_of_group<32>(square);
  }

  /// Which vectors take part, how they are scaled, and 1 / their norms, 0 for the others.
  __device__ __forceinline__ void judge() {
    faulty_ = false;
    usable_ = 0;
    __syncwarp();  // behind exchanges: what is there of an earlier utterance has been read
#pragma unroll 1
    for (int64_t m = 0; m < modalities_; ++m) {
      double shift = 1, inverse = 0;
      if (rows_.present.at(m, t_)) {
        if constexpr (of_predictions) shift = largest(m);
        double square = squared_norm(m, shift);
        if (of_predictions) {
          faulty_ |= square != square;  // NaN and +Inf, and -Inf everywhere, give a NaN difference to the maximum
        } else if (!is_in_range(square, true)) {
          const double most = largest(m);
          faulty_ |= !(most < infinity_of<double>());
          shift = most < infinity_of<double>() ? scale_for(most) : 1;
          square = most > 0 ? squared_norm(m, shift) : 0;
        }
        if (square > 0) {
          inverse = 1 / sqrt(square);
          ++usable_;
        }
      }
      if (lane_ == 0) {
        shift_[m] = shift;
        inverse_[m] = inverse;
      }
    }
    __syncwarp();
  }

  const CoherenceRows& rows_;
  const int64_t t_, modalities_, columns_;
  double* const shift_;  // [modalities]: the power of two that scales an embedding, or the largest logit
  double* const inverse_;
  double* const along_;  // u_m S
  const int lane_;
  bool faulty_ = false;
  int usable_ = 0;
};

}  // namespace on_device
}  // namespace spcl
