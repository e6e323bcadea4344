#!/usr/bin/env bash
# Tries everything once on a host with an NVIDIA GPU, in at most five minutes: smoke.sh OUT
#
# The driver; the C++ session's tests on the GPU; every call of a vendor's library (kernels beside NumPy, PyTorch's network
# in a session, the whole loop captured, external arrays, ONNX Runtime on the GPU, TensorRT-RTX by plans for this GPU and for
# 8.0); the test suites marked `gpu`; compute-sanitizer. Meanwhile the bundles that measure.sh needs are made.
# docs/performance.md says what to bring and what comes out.
set -euo pipefail
limit_s=280
. "$(dirname "$0")/items.sh"

# The C++ tests: the program that is named, else the one that was carried, else the one that was built here.
tests=${SEGGD_GPU_TESTS:-$parts/seggd_gpu_tests}
test -e "$tests" || tests=${SEGGD_GPU_TESTS:-build/cuda/tests/seggd_gpu_tests}

item unpack 60 "$python" -m benchmarks.gpu.unpack "$parts" "$state/site"
item driver 20 nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total,clocks.max.sm --format=csv
item c++ 40 "$tests" "--gtest_output=json:$out/cpp.json"
item libraries 110 "$python" -m benchmarks.gpu --smoke
began=$SECONDS left=$((deadline - SECONDS))
"$python" -m benchmarks.gpu "$out/bundles.json" --part bundles --limit-s $((left > 40 ? left - 25 : 15)) \
  >"$out/bundles.log" 2>&1 &
bundles=$!
measure suites 140 --part floor --part suites --part sanitizer
code=0
wait "$bundles" || code=$?
tail -n 5 "$out/bundles.log"
record bundles "$code" $((SECONDS - began))
finish
