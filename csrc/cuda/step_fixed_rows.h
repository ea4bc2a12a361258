#pragma once

// The first phase of the step for rows of a few classes that are known when the kernel is compiled: a row a thread,
// all in registers. A warp stages the rows of its chunk, 16 bytes at a time and several modalities at once, in a part
// of the shared memory that is its own, so that it never waits for the others.

#include "cuda/row_tile.h"
#include "cuda/step_block.h"

namespace spcl {
namespace on_device {

/// Class weights of up to 8 classes in shared memory, NaN for what is no proper weight; to be used behind a barrier.
template <class Real>
struct FewClassWeights {
  using Values = Real[8];
  const Real* values = nullptr;  // nullptr: all are 1
  Real sum;

  __device__ __forceinline__ explicit FewClassWeights(const StepCall& call)
      : sum(static_cast<Real>(call.logits.columns)) {
    if (call.class_weight.data == nullptr) return;
    SPCL_SHARED(Values, shared);
    const int classes = static_cast<int>(call.logits.columns);
    if (static_cast<int>(threadIdx.x) < classes) {
      shared[threadIdx.x] = static_cast<Real>(proper_class_weight(call, threadIdx.x));
    }
    double total = 0;
    for (int c = 0; c < classes; ++c) {
      const double w = proper_class_weight(call, c);
      total += w == w ? w : 0.0;
    }
    sum = static_cast<Real>(total);
    values = shared;
  }
  __device__ __forceinline__ Real of(int c) const {
    if (values == nullptr) return 1;
    return values[c] == values[c] ? values[c] : Real{};
  }
  __device__ __forceinline__ bool is_proper(int c) const { return values == nullptr || values[c] == values[c]; }
};

/// A row's logits at its label: softmax, and NaN without one.
template <int classes, class Real>
__device__ __forceinline__ Real softmax_at(const Real* z, int label) {
  Real maximum = -infinity_of<Real>();
#pragma unroll
  for (int c = 0; c < classes; ++c) maximum = z[c] > maximum ? z[c] : maximum;
  Real sum = 0, own = 0;
#pragma unroll
  for (int c = 0; c < classes; ++c) {
    const Real e = exp_of(z[c] - maximum);
    sum += e;
    own = label == c ? e : own;
  }
  return own / sum;
}

template <class Stored, int classes>
class FixedRows {
 public:
  typedef typename Computed<Stored>::Real Real;
  static constexpr int kClasses = classes;
  static constexpr int kBlocks = 3;  // of a multiprocessor: 80 registers a thread
  /// Modalities staged together, as shared memory allows for all blocks of a multiprocessor.
  static constexpr int kMostSlots = sizeof(Stored) * classes > 28 ? 2 : (sizeof(Stored) * classes > 16 ? 3 : 4);

  static bool fits(const Sources& logits) {
    for (int k = 0; k < logits.count; ++k) {
      const Sources::Source& source = logits.sources[k];
      if (!Tile::fits(source.data, source.row_stride, source.class_stride)) return false;
    }
    return logits.modality_stride % Tile::kUnit == 0;
  }
  static int64_t rows_bytes(int slots, bool needs_gradient) {
    return kStepWarps * (slots * kSlotBytes + (needs_gradient ? kGradientBytes : 0));
  }

  __device__ __forceinline__ FixedRows(const StepCall& call, const StepPlan& plan, char* memory)
      : call_(call),
        slots_(plan.tile_slots),
        weights_(call),
        smoothing_(static_cast<Real>(call.label_smoothing)),
        tiles_(memory + threadIdx.x / 32 * (plan.rows_bytes / kStepWarps)),
        gradient_tile_(tiles_ + plan.tile_slots * kSlotBytes) {}

  /// Scores the rows [begin, end).
  __device__ __forceinline__ void score(const StepResults<Real>& to, int64_t begin, int64_t end, double* totals) const {
    unsigned bad_label = 0, nonfinite = 0;
#pragma unroll 1
    for (int64_t chunk = first_chunk(begin); chunk < end; chunk += kStepThreads) {
      score_chunk(to, chunk, begin, end, bad_label, nonfinite);
    }
    add_count(totals + kBadLabel, bad_label);
    add_count(totals + kNonfinite, nonfinite);
  }

 private:
  using Tile = RowTile<Stored, classes>;
  using GradientTile = RowTile<Real, classes>;
  static constexpr int kSlotBytes = Tile::bytes(32);
  static constexpr int kGradientBytes = 32 * GradientTile::kPitch;
  /// Pieces of 16 bytes that a chunk touches, shared out over the lanes.
  static constexpr int kPieces = (32 * Tile::kRowBytes / 16 + (Tile::kUnit < 16 ? 1 : 0) + 31) / 32;

  __device__ __forceinline__ void score_chunk(const StepResults<Real>& to, int64_t chunk, int64_t begin, int64_t end,
                                              unsigned& bad_label, unsigned& nonfinite) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int64_t row = chunk + lane, modalities = call_.logits.modalities;
    const bool is_active = row >= begin && row < end;
    bool is_bad = false, is_finite = true, has_any = false;
    int label = -1;
    if (is_active) label = call_.labels.class_of(row, is_bad);
    bad_label += is_bad;

    Real joint[classes];
#pragma unroll
    for (int c = 0; c < classes; ++c) joint[c] = Real(-0.0);  // what any number, -0 too, is added to and stays the same
    const int step = slots_ > 0 ? slots_ : kMostSlots;
#pragma unroll 1
    for (int64_t first = 0; first < modalities; first += step) {
      __syncwarp();  // what the tiles held has been read
      if (slots_ > 0) {
        stage(chunk, first);
        __syncwarp();
      }
      if (!is_active) continue;
      // Not unrolled: the instructions of one modality are many, and other warps are there to wait with.
#pragma unroll 1
      for (int k = 0; k < step && first + k < modalities; ++k) {
        const int64_t m = first + k;
        Real z[classes];
        read(chunk, row, m, k, z);
        const bool has = call_.present.at(m, row);
        const Real p = softmax_at<classes>(z, label);
        is_finite &= p == p || !has;
        has_any |= has;
#pragma unroll
        for (int c = 0; c < classes; ++c) joint[c] += has ? z[c] : Real{};
        to.confidence(m, row) = has ? p : nan_of<Real>();
      }
    }
    if (is_active) {
      if (call_.joint.data != nullptr) read_joint(row, joint);
      const Real loss = finish(label, joint);
      const bool is_candidate = label >= 0 && has_any;
      is_finite &= loss == loss && weights_.is_proper(label < 0 ? 0 : label);
      const bool is_scored = is_candidate && is_finite;
      nonfinite += is_candidate && (!is_finite || loss == infinity_of<Real>());
      to.loss(row) = is_scored ? loss : nan_of<Real>();
      if (!is_scored) {
        for (int64_t m = 0; m < modalities; ++m) to.confidence(m, row) = nan_of<Real>();
      }
#pragma unroll
      for (int c = 0; c < classes; ++c) joint[c] = is_scored ? joint[c] : Real{};
    }
    if (to.has_gradient()) write_gradient(to, chunk, begin, end, joint);
  }

  /// Copies the chunk's rows of the modalities from `first`. A barrier of the warp has to follow.
  __device__ __forceinline__ void stage(int64_t chunk, int64_t first) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int64_t all = call_.logits.rows * Tile::kRowBytes;
#pragma unroll 1
    for (int k = 0; k < slots_ && first + k < call_.logits.modalities; ++k) {
      const char* data = call_.logits.modality(first + k).data;
      const int64_t base = chunk * Tile::kRowBytes - Tile::phase_of(data);
      char* tile = tiles_ + k * kSlotBytes;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const int piece = i * 32 + lane;
        const int64_t byte = base + piece * 16;
        if (!is_needed(piece, data)) continue;
        if (byte >= 0 && byte + 16 <= all) {
          copy_16_bytes(shared_address(tile + Tile::place(piece * 16)), data + byte);
        } else if constexpr (Tile::kUnit < 16) {  // at the ends of the tensor: number by number
#pragma unroll 1
          for (int b = 0; b < 16; b += static_cast<int>(sizeof(Stored))) {
            if (byte + b < 0 || byte + b >= all) continue;
            *reinterpret_cast<Stored*>(tile + piece * 16 + b) = *reinterpret_cast<const Stored*>(data + byte + b);
          }
        }
      }
    }
    await_copies();
  }
  /// A chunk starts at a multiple of 16 bytes from the first row: all chunks have the phase of the tensor.
  __device__ __forceinline__ static bool is_needed(int piece, const char* data) {
    return piece * 16 < Tile::phase_of(data) + 32 * Tile::kRowBytes;
  }

  __device__ __forceinline__ void read(int64_t chunk, int64_t row, int64_t m, int slot, Real* z) const {
    const Sources::Source source = call_.logits.modality(m);
    if (slots_ > 0) {
      Tile::read(tiles_ + slot * kSlotBytes, source.data, static_cast<int>(row - chunk), z);
    } else {
      read_row<Stored>(source, row, z);
    }
  }
  template <class Type>
  __device__ __forceinline__ static void read_row(const Sources::Source& source, int64_t row, Real* values) {
    const char* address = source.data + row * source.row_stride;
#pragma unroll
    for (int c = 0; c < classes; ++c) values[c] = static_cast<Real>(load<Type>(address + c * source.class_stride));
  }
  __device__ __forceinline__ void read_joint(int64_t row, Real* joint) const {
    switch (call_.joint_type) {
      case FloatType::kFloat16:
        return read_row<Float16>(call_.joint, row, joint);
      case FloatType::kBFloat16:
        return read_row<BFloat16>(call_.joint, row, joint);
      case FloatType::kFloat32:
        return read_row<float>(call_.joint, row, joint);
      case FloatType::kFloat64:
        return read_row<double>(call_.joint, row, joint);
    }
  }

  /// Loss of the joint logits at the label; leaves its gradient in their place.
  __device__ __forceinline__ Real finish(int label, Real* joint) const {
    const bool is_weighted = weights_.values != nullptr || smoothing_ > 0;
    Real maximum = -infinity_of<Real>();
#pragma unroll
    for (int c = 0; c < classes; ++c) maximum = joint[c] > maximum ? joint[c] : maximum;
    Real true_shift = 0;
#pragma unroll
    for (int c = 0; c < classes; ++c) {
      joint[c] -= maximum;
      true_shift = label == c ? joint[c] : true_shift;
    }
    SmoothedLoss<Real> smoothed;
    if (is_weighted) {
#pragma unroll
      for (int c = 0; c < classes; ++c) smoothed.add(joint[c], weights_.of(c), label == c);
      smoothed.weighted_shifts.close_tile();
    }
    Real sum = 0;
#pragma unroll
    for (int c = 0; c < classes; ++c) {
      joint[c] = exp_of(joint[c]);
      sum += joint[c];
    }
    const Real log_sum = log_of(sum), plain = log_sum - true_shift, inverse = 1 / sum;
    const Real smooth = smoothing_ / classes;
    Real own = 1, all = 1, loss = plain;
    if (is_weighted) {
      loss = smoothed.finish(plain, log_sum, weights_.sum, smoothing_, Real{classes});
      own = smoothed.true_weight * (1 - smoothing_);
      all = own + smooth * weights_.sum;
    }
#pragma unroll
    for (int c = 0; c < classes; ++c) {
      Real g = joint[c] * inverse * all;
      g = label == c ? g - own : g;
      joint[c] = smoothing_ > 0 ? g - smooth * weights_.of(c) : g;
    }
    return loss;
  }

  /// Writes the chunk's gradient through shared memory, 16 bytes at a time where all its rows are meant.
  __device__ __forceinline__ void write_gradient(const StepResults<Real>& to, int64_t chunk, int64_t begin, int64_t end,
                                                 const Real* gradient) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    GradientTile::write(gradient_tile_, lane, gradient);
    __syncwarp();
    Real* rows = to.gradient(chunk);
    if (chunk >= begin && chunk + 32 <= end) {
      for (int piece = lane; piece < 32 * GradientTile::kRowBytes / 16; piece += 32) {
        reinterpret_cast<uint4*>(rows)[piece] =
            *reinterpret_cast<const uint4*>(gradient_tile_ + GradientTile::place(piece * 16));
      }
    } else {
      for (int k = lane; k < 32 * classes; k += 32) {
        const int64_t row = chunk + k / classes;
        if (row < begin || row >= end) continue;
        const int byte = k * static_cast<int>(sizeof(Real));
        rows[k] = *reinterpret_cast<const Real*>(gradient_tile_ + GradientTile::place(byte));
      }
    }
  }

  const StepCall& call_;
  const int slots_;
  const FewClassWeights<Real> weights_;
  const Real smoothing_;
  char* const tiles_;
  char* const gradient_tile_;
};

}  // namespace on_device
}  // namespace spcl
