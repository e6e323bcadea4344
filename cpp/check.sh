#!/usr/bin/env bash
# Builds the C++ SDK and runs its tests: check.sh ONNXRUNTIME_LIBRARY
#
# With g++ as it is shipped, installed and linked by a stranger; with clang under AddressSanitizer and UBSan, fuzzed; with
# clang under ThreadSanitizer; with clang as a static library, installed and linked; compiled and linked for Windows; and
# where there is an nvcc, with the session on a GPU, and TensorRT where TENSORRT_INCLUDE in the environment names its
# headers. The layout is checked where there is a clang-format. Packages that are missing are installed where this is root
# on Debian, else named.
set -euo pipefail
cd "$(dirname "$0")/.."
onnxruntime=$(realpath "$1")

need() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
  done
  if test ${#missing[@]} -eq 0; then return; fi
  if test "$(id -u)" -ne 0; then
    echo "make cpp: as root, apt-get install ${missing[*]}" >&2
    exit 1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

configure() { # configure NAME OPTION...
  local name=$1
  shift
  cmake -S cpp -B "build/$name" -G Ninja -DSEGGD_TESTS=ON -DONNXRUNTIME_INCLUDE="$PWD/build/onnxruntime/include" \
    -DONNXRUNTIME_LIBRARY="$onnxruntime" "$@" >"build/$name.log" || { cat "build/$name.log" && exit 1; }
}

build() { # build NAME [TARGET]
  cmake --build "build/$1" --parallel "$(nproc)" --target "${2:-all}"
}

tests() { # tests NAME [CTEST_OPTION...]
  local name=$1
  shift
  ctest --test-dir "build/$name" --output-on-failure --parallel "$(nproc)" "$@" >"build/$name.log" ||
    { cat "build/$name.log" && exit 1; }
  echo "$name: $(grep "tests passed" "build/$name.log")"
}

need cmake ninja-build pkg-config g++ clang nlohmann-json3-dev libssl-dev libgtest-dev libpng-dev \
  g++-mingw-w64-x86-64-posix
need "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
if command -v clang-format >/dev/null; then
  find cpp examples/c examples/cpp -name '*.[ch]' -o -name '*.[ch]pp' -o -name '*.cu' |
    xargs clang-format --dry-run -Werror
fi
mkdir -p build
cpp/fetch_onnxruntime_headers.sh build/onnxruntime

configure cpp -DSEGGD_EXAMPLES=ON -DSEGGD_BENCHMARK=ON -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++
build cpp
tests cpp
size=$(stat -L -c %s build/cpp/libseggd.so)
test "$size" -lt $((2 << 20)) || { echo "libseggd.so has $size bytes; it must stay below 2 MiB" >&2 && exit 1; }
SEGGD_ONNXRUNTIME=$onnxruntime build/cpp/benchmark/seggd_benchmark tests/golden/tiny.seggd 2 1 >/dev/null

clang=(-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Debug -DBUILD_SHARED_LIBS=OFF)
configure asan "${clang[@]}" -DSEGGD_SANITIZE=address,undefined -DSEGGD_FUZZ=ON
build asan
tests asan
configure tsan "${clang[@]}" -DSEGGD_SANITIZE=thread
build tsan
tests tsan
configure static "${clang[@]}"
build static seggd
tests static --tests-regex installed

# For Windows: nlohmann's headers alone of /usr/include, which has Linux's beside them; ONNX Runtime's header writes one
# keyword in Microsoft's way.
mkdir -p build/windows
ln -sfn /usr/include/nlohmann build/windows/nlohmann
x86_64-w64-mingw32-g++-posix -std=c++17 -Wall -Wextra -Werror -ffp-contract=off -DSEGGD_BUILDING -DSEGGD_VERSION='""' \
  -D_stdcall=__stdcall -Icpp/include -Icpp/src -Iengines/seggd_engines/cuda/kernels \
  -isystem build/onnxruntime/include -isystem build/windows -isystem cpp/tests/engines/fake_tensorrt \
  cpp/src/*/*.cpp -shared -static -lbcrypt -o build/windows/seggd.dll

# For a GPU: it is loaded and draws on the CPU where there is none.
if command -v nvcc >/dev/null; then
  tensorrt=OFF
  test -z "${TENSORRT_INCLUDE:-}" || tensorrt=ON
  configure cuda -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ -DSEGGD_CUDA=ON -DSEGGD_TENSORRT=$tensorrt \
    -DTENSORRT_INCLUDE="${TENSORRT_INCLUDE:-}"
  build cuda seggd_c11
  build cuda seggd_gpu_tests
  tests cuda --tests-regex 'c11|gpu'  # the latter skipped where there is no GPU
  strip -o build/cuda/stripped.so build/cuda/libseggd.so
  gpu_size=$(stat -c %s build/cuda/stripped.so)
  test "$gpu_size" -lt $((2 << 20)) || { echo "with CUDA it has $gpu_size bytes, not below 2 MiB" >&2 && exit 1; }
  echo "with CUDA, TensorRT $tensorrt: $gpu_size bytes, stripped"
fi
echo "libseggd.so: $size bytes; seggd.dll links"
