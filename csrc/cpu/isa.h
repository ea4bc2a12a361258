#pragma once

namespace spcl {

enum class Isa { kBaseline, kAvx2, kAvx512 };

/// The instruction set the kernels of this process use: the best the machine has, or the lower one that the
/// environment variable SPCL_FAST_ISA names (read once). Throws std::runtime_error for one that cannot run.
Isa isa();

/// "baseline", "avx2" or "avx512": the words SPCL_FAST_ISA takes.
const char* isa_name(Isa isa);

}  // namespace spcl
