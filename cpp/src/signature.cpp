#include "signature.h"

#include <map>

#include "error.h"
#include "wording.h"

namespace seggd::core {
namespace {

using Axes = std::vector<int64_t>;  // -1 for one that is free
using Ports = std::map<std::string, Axes>;

std::string listed(const Ports& ports) {
  std::vector<std::string> all;
  for (const auto& [name, axes] : ports) {
    std::vector<std::string> sizes;
    for (const int64_t axis : axes) sizes.push_back(axis < 0 ? "N" : std::to_string(axis));
    all.push_back(name + " (" + joined(sizes) + ")");
  }
  return joined(all);
}

bool fits(const Axes& found, const Axes& wanted) {
  if (found.size() != wanted.size()) return false;
  for (size_t i = 0; i < found.size(); ++i)
    if (found[i] >= 0 && found[i] != wanted[i]) return false;
  return true;
}

Axes axes_of(const OnnxRuntime& ort, OrtTypeInfo* info) {
  const OrtApi& api = ort.api();
  const auto owned = ort.own(info, api.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  ort.require(api.CastTypeInfoToTensorInfo(info, &tensor), "read the graph");
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  if (tensor) ort.require(api.GetTensorElementType(tensor, &type), "read the graph");
  if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) return {0};  // which fits nothing
  size_t count = 0;
  ort.require(api.GetDimensionsCount(tensor, &count), "read the graph");
  Axes axes(count);
  ort.require(api.GetDimensions(tensor, axes.data(), count), "read the graph");
  return axes;
}

Ports ports_of(const OnnxRuntime& ort, OrtSession* session) {
  const OrtApi& api = ort.api();
  OrtAllocator* allocator = nullptr;
  ort.require(api.GetAllocatorWithDefaultOptions(&allocator), "read the graph");
  Ports ports;
  const auto add = [&](size_t count, auto name_of, auto type_of) {
    for (size_t i = 0; i < count; ++i) {
      char* name = nullptr;
      OrtTypeInfo* info = nullptr;
      ort.require(name_of(session, i, allocator, &name), "read the graph");
      const std::string copy(name);
      ort.require(api.AllocatorFree(allocator, name), "read the graph");
      ort.require(type_of(session, i, &info), "read the graph");
      ports[copy] = axes_of(ort, info);
    }
  };
  size_t inputs = 0, outputs = 0;
  ort.require(api.SessionGetInputCount(session, &inputs), "read the graph");
  ort.require(api.SessionGetOutputCount(session, &outputs), "read the graph");
  add(inputs, api.SessionGetInputName, api.SessionGetInputTypeInfo);
  add(outputs, api.SessionGetOutputName, api.SessionGetOutputTypeInfo);
  return ports;
}

}  // namespace

void check_signature(const OnnxRuntime& ort, OrtSession* session, const NetworkShape& shape, const std::string& graph) {
  // -1 of a batch fits only what is free.
  const Ports wanted{{"sample", {-1, shape.channels(), shape.height, shape.width}},
                     {"timestep", {-1}},
                     {"out", {-1, shape.image_channels, shape.height, shape.width}}};
  const Ports found = ports_of(ort, session);
  bool same = found.size() == wanted.size();
  for (const auto& [name, axes] : wanted) {
    const auto port = found.find(name);
    same = same && port != found.end() && fits(port->second, axes);
  }
  if (!same)
    throw Error(SEGGD_ENGINE, graph + " is not the network of this manifest: it has " + listed(found) +
                                  ", the manifest says " + listed(wanted) + "; export the bundle again");
}

}  // namespace seggd::core
