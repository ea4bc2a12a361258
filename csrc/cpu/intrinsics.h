#pragma once

// The instruction sets' own functions, each usable where its instructions are allowed (see cpu/every_isa.h).
#if defined(__x86_64__)
#include <immintrin.h>
#endif
