// What a network computes in, and how near to PyTorch's fp32 each precision must stay: seggd_rt/diffusion/precision.py.
#pragma once

#include <cstddef>
#include <utility>

namespace seggd::core {

enum class Precision { kFp32, kFp16, kBf16 };

// Largest error of one network output: |d|_2 / |o|_2, and max|d| / max|o|.
double parity_limit(Precision precision);

// Largest difference of two equal images of a batch in one network output, over max|o|.
double row_limit(Precision precision);

// Least PSNR of a whole image at which a lower precision may be chosen automatically.
constexpr double kImagePsnrDb = 40.0;

// The two errors of an output against a reference; infinite where the output is not finite or the reference is zero.
std::pair<double, double> relative_errors(const float* output, const float* reference, size_t count);

// Of images in [0, 1]; infinite where they are equal.
double psnr_db(const float* image, const float* reference, size_t count);

}  // namespace seggd::core
