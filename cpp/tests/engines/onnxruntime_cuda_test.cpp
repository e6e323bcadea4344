// ONNX Runtime's CUDA provider, whose calls a fake takes down while the CPU computes: what is asked of it, and images.
#include "engines/onnxruntime_cuda.h"

#include <gtest/gtest.h>

#include "api/generator.h"
#include "api/loading.h"
#include "bundle/bundle.h"
#include "core/library.h"
#include "tests/engines/emulated.h"
#include "tests/golden.h"

namespace {

using namespace seggd::core;

std::string notes() { return Library(FAKE_ONNXRUNTIME).find<const char*()>("fake_notes")(); }

std::unique_ptr<Network> open_on_gpu(const Bundle& bundle, const NetworkShape& shape) {
  const Graph& graph = bundle.graph(Precision::kFp32);
  const EngineInfo info{"onnxruntime-cuda", "1", "cuda:2", "a GPU", Precision::kFp32, ""};
  // What knows no queue must find what was enqueued before it.
  const auto make_stream = [](int ordinal) {
    EXPECT_EQ(ordinal, 2);
    return std::make_unique<emulated::EmulatedStream>(true);
  };
  return std::make_unique<OnnxRuntimeCudaNetwork>(OnnxRuntime::load(FAKE_ONNXRUNTIME), bundle.graph_file(graph),
                                                  ProviderOptions{{"device_id", "2"}, {"use_tf32", "0"}}, shape, info,
                                                  make_stream);
}

TEST(OnnxRuntimeCuda, DrawsOnItsOwnMemoryAndStream) {
  const auto bundle = std::make_shared<const Bundle>(golden::bundle("tiny"));
  notes();
  Generator gpu(bundle, open_on_gpu(*bundle, {1, 3, 24, 32}));
  seggd::core::LoadOptions options;
  options.engine = "onnxruntime", options.libraries.onnxruntime = ONNXRUNTIME_LIBRARY;
  Generator host(bundle, load(*bundle, options));
  const std::vector<uint8_t> label_map(24 * 32, 1);
  seggd_request request{};
  request.struct_size = sizeof request, request.label_maps = label_map.data(), request.steps = 3;
  request.height = 24, request.width = 32, request.count = 2;
  std::vector<float> found(2 * 24 * 32), expected(found.size());
  gpu.generate(request, {found.data(), found.size() * sizeof(float), SEGGD_FLOAT32});
  host.generate(request, {expected.data(), expected.size() * sizeof(float), SEGGD_FLOAT32});
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-5);
  EXPECT_EQ(notes(),
            "session.load_model_format=ONNX\nsession.disable_cpu_ep_fallback=1\n"
            "device_id=2\nenable_cuda_graph=1\nuse_tf32=0\n"
            "user_compute_stream is a pointer\nappended\n"
            "disable_synchronize_execution_providers=1\n"
            "memory of Cuda 2\n");
}

TEST(OnnxRuntimeCuda, AGraphOfAnotherNetwork) {
  const Bundle bundle(golden::bundle("tiny"));
  const golden::Outcome found = golden::outcome([&] { open_on_gpu(bundle, {1, 2, 24, 32})->session(3); });
  EXPECT_EQ(found.status, SEGGD_ENGINE);
  EXPECT_NE(found.message.find("is not the network of this manifest"), std::string::npos);
}

}  // namespace
