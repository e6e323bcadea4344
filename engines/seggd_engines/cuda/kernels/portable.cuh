// What lets one source serve NVRTC, nvcc and any C++ compiler. Under NVRTC nothing may be included.
//
// No product may be fused with a sum: compile with --fmad=false (NVRTC, nvcc) or -ffp-contract=off (g++, clang), so
// that every implementation rounds alike.
#pragma once

#ifdef __CUDACC__
#define SEGGD_FUNCTION __host__ __device__ inline
#else
#define SEGGD_FUNCTION inline
#endif

#ifndef __CUDACC_RTC__
#include <cmath>
#endif

namespace seggd {

using Byte = unsigned char;
using Word = unsigned int;                // 32 bits
using LongWord = unsigned long long;      // 64 bits

static_assert(sizeof(Word) == 4 && sizeof(LongWord) == 8 && sizeof(float) == 4, "the sizes that buffers are laid out by");

}  // namespace seggd
