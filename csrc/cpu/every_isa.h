// Includes the file named by SPCL_KERNEL_SOURCE once per instruction set, each time in a namespace of its own
// (SPCL_ISA) and with vectors as wide as its registers. One .cpp file includes this once, after every
// standard header: a standard function compiled here for AVX-512 could be the copy the linker keeps for
// everyone.

#define SPCL_ISA baseline
#define SPCL_VECTOR_BYTES 16
#include SPCL_KERNEL_SOURCE
#undef SPCL_ISA
#undef SPCL_VECTOR_BYTES

#if defined(__x86_64__)

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define SPCL_ISA avx2
#define SPCL_VECTOR_BYTES 32
#include SPCL_KERNEL_SOURCE
#undef SPCL_ISA
#undef SPCL_VECTOR_BYTES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define SPCL_ISA avx512
#define SPCL_VECTOR_BYTES 64
#include SPCL_KERNEL_SOURCE
#undef SPCL_ISA
#undef SPCL_VECTOR_BYTES
#pragma GCC pop_options

// Returns `call` of the namespace whose instructions this process uses.
#define SPCL_ON_BEST_ISA(call)                    \
  if (isa() == Isa::kAvx512) return avx512::call; \
  if (isa() == Isa::kAvx2) return avx2::call;     \
  return baseline::call

#else

#define SPCL_ON_BEST_ISA(call) return baseline::call

#endif
