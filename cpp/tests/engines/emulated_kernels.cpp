// The kernels compiled for the host, apart from the C ABI: a kernel and one of its structs have the same name.
#include <mutex>

#include "../../../tests/engines/cuda/emulate.cpp"
#include "engines/device.h"

namespace emulated {

using seggd::core::Kernel;

void run_kernel(Kernel kernel, unsigned grid_x, unsigned grid_y, unsigned block, const void* state) {
  static std::mutex mutex;  // threads' indices are the kernels' globals
  const std::lock_guard lock(mutex);
  auto* function = kernel == Kernel::kBegin ? seggd_begin : kernel == Kernel::kStep ? seggd_step : seggd_finish;
  emulate(function, grid_x, grid_y, block, static_cast<const seggd::Sampling*>(state));
}

}  // namespace emulated
