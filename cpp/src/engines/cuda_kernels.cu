// The kernels, apart from the C ABI: one of them and one of its structs have the same name.
#include "engines/cuda_stream.h"
#include "sampling.cu"

namespace seggd::core {

const void* kernel_function(Kernel kernel) {
  switch (kernel) {
    case Kernel::kBegin:
      return reinterpret_cast<const void*>(seggd_begin);
    case Kernel::kStep:
      return reinterpret_cast<const void*>(seggd_step);
    case Kernel::kFinish:
      break;
  }
  return reinterpret_cast<const void*>(seggd_finish);
}

}  // namespace seggd::core
