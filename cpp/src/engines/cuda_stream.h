// A stream of an NVIDIA GPU, by the CUDA runtime: engines/seggd_engines/cuda/stream.py.
#pragma once

#include "engines/device.h"

namespace seggd::core {

// SEGGD_ENGINE where the GPU of this number cannot be used. Its context is the primary one, which CUDA's runtime,
// PyTorch and others share.
std::unique_ptr<DeviceStream> make_cuda_stream(int ordinal);

// A kernel's function, as the CUDA runtime takes it.
const void* kernel_function(Kernel kernel);

}  // namespace seggd::core
