// The memory of one thread of `window_coherence`, cut into its parts; for the instruction set being compiled (see
// cpu/every_isa.h).

namespace spcl {
namespace SPCL_ISA {

/// Parts of a piece of memory, each aligned to 64 bytes. Without memory it only adds up their sizes.
class Pieces {
 public:
  explicit Pieces(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    T* const piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return piece;
  }

  int64_t used() const { return used_; }

 private:
  char* memory_;
  int64_t used_ = 0;
};

struct CoherenceMemory {
  double* values;     // [coherence_rows + 2 half]: c of the rows at hand, or their gradients
  WindowTerm* tails;  // [2 half + 1]
  CoherenceBlock block;
  const char** row;    // [modalities]
  ProductSum* sums;    // [pairs of modalities], where they are too many for registers
  char* columns;       // [modalities, kDotElements] of 8 bytes: elements that do not lie side by side
  char* tiles;         // [modalities + 1] tiles of logits, each of kTileBytes
  char* maxima;        // [modalities] vectors
  char* coefficients;  // [modalities, modalities] vectors

  static constexpr int64_t kTileBytes = kTileClasses * SPCL_VECTOR_BYTES;

  CoherenceMemory(const CoherenceBatch& batch, void* memory, int64_t* bytes = nullptr) {
    Pieces pieces(memory);
    const int64_t M = batch.modalities, pairs = M * (M + 1) / 2;
    values = pieces.take<double>(coherence_rows(batch) + 2 * batch.half);
    tails = pieces.take<WindowTerm>(2 * batch.half + 1);
    block.modalities = M;
    block.products = pieces.take<BlockRow>(pairs);
    block.usable = pieces.take<BlockRow>(M);
    block.scale = pieces.take<BlockRow>(M);
    block.norm = pieces.take<BlockRow>(M);
    block.coefficients = pieces.take<BlockRow>(M * M);
    row = pieces.take<const char*>(M);
    sums = pieces.take<ProductSum>(pairs);
    columns = pieces.take<char>(M * kDotElements * 8);
    tiles = pieces.take<char>((M + 1) * kTileBytes);
    maxima = pieces.take<char>(M * 64);
    coefficients = pieces.take<char>(M * M * 64);
    if (bytes != nullptr) *bytes = pieces.used();
    if (memory == nullptr) return;
    // Rows past the last of a block are computed like the others, so they have to hold numbers.
    std::memset(block.products, 0, static_cast<size_t>(pairs) * sizeof(BlockRow));
    std::memset(block.usable, 0, static_cast<size_t>(M) * sizeof(BlockRow));
    std::memset(block.scale, 0, static_cast<size_t>(M) * sizeof(BlockRow));
  }
};

inline bool is_present(const CoherenceBatch& batch, int64_t m, int64_t t) {
  return batch.present == nullptr || batch.present[m * batch.present_modality_stride + t * batch.present_stride] != 0;
}

}  // namespace SPCL_ISA
}  // namespace spcl
