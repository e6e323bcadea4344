#include "core/precision.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace seggd::core {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

double parity_limit(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return 1e-5;
    case Precision::kFp16:
      return 1e-2;
    case Precision::kBf16:
      break;
  }
  return 5e-2;
}

double row_limit(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return 1e-5;
    case Precision::kFp16:
      return 2e-3;
    case Precision::kBf16:
      break;
  }
  return 2e-2;
}

std::pair<double, double> relative_errors(const float* output, const float* reference, size_t count) {
  double difference = 0, size = 0, worst = 0, largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const double exact = reference[i], d = static_cast<double>(output[i]) - exact;
    if (!std::isfinite(d)) return {kInfinity, kInfinity};
    difference += d * d, size += exact * exact;
    worst = std::max(worst, std::abs(d)), largest = std::max(largest, std::abs(exact));
  }
  if (largest == 0) return {kInfinity, kInfinity};
  return {std::sqrt(difference) / std::sqrt(size), worst / largest};
}

double psnr_db(const float* image, const float* reference, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const double d = static_cast<double>(image[i]) - static_cast<double>(reference[i]);
    sum += d * d;
  }
  return sum == 0 ? kInfinity : -10 * std::log10(sum / static_cast<double>(count));
}

}  // namespace seggd::core
