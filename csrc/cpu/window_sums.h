// Sums over sliding windows of a dialogue, for the instruction set being compiled (see cpu/every_isa.h).

namespace spcl {
namespace SPCL_ISA {

struct WindowTerm {
  double value, count;
};

/// Sums of the terms of rows t - half .. t + half, cut at the dialogue [first, last), for t in [begin, end) within it.
///
/// In blocks of 2 half + 1 rows from `first` on, a window is the end of one block and the beginning of the next: three
/// additions a row whatever the width, no difference of long sums, and nothing that depends on `begin`. Reads no
/// term outside the windows. `tails` holds 2 half + 1 terms.
template <class TermOf, class Take>
SPCL_HD void window_sums(int64_t first, int64_t last, int64_t begin, int64_t end, int64_t half, WindowTerm* tails,
                         TermOf term_of, Take take) {
  const int64_t width = 2 * half + 1;
  for (int64_t t = begin; t < end;) {
    const int64_t start = t - half - first;  // negative at the beginning of the dialogue, but not below -width
    const int64_t block = first + (start < 0 ? -width : start / width * width);
    const int64_t next = block + width;
    const int64_t stop = end < next + half ? end : next + half;  // rows whose windows start in the block

    WindowTerm tail{0, 0};
    for (int64_t row = next; row-- > t - half;) {
      if (row >= first && row < last) {
        const WindowTerm term = term_of(row);
        tail.value += term.value;
        tail.count += term.count;
      }
      tails[row - (t - half)] = tail;
    }
    WindowTerm head{0, 0};
    const auto extend = [&](int64_t row) __attribute__((always_inline)) {
      const WindowTerm term = term_of(row);
      head.value += term.value;
      head.count += term.count;
    };
    int64_t row = next < first ? first : next;
    for (int64_t k = 0; t < stop; ++t, ++k) {
      for (; row <= t + half && row < last; ++row) extend(row);
      take(t, WindowTerm{tails[k].value + head.value, tails[k].count + head.count});
    }
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
