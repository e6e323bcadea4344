// Whatever bytes lie where a manifest, a golden run, a graph, a label map or a text should: an error, never a crash.
//
// The first byte says which of them the others are.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

#include "bundle/manifest.h"
#include "bundle/meaning.h"
#include "bundle/onnx_data.h"
#include "bundle/safetensors.h"
#include "core/error.h"
#include "core/labels.h"
#include "core/printable.h"

namespace {

using namespace seggd::core;

void read_manifest(std::string_view data) {
  const Manifest manifest = parse_manifest(data, "bundle.json");
  meaning(manifest);
}

// Seven classes' label map, and names of classes to keep.
void read_labels(std::string_view data) {
  std::vector<LabelClass> classes;
  for (int id = 0; id < 7; ++id) classes.push_back({id, "class " + std::to_string(id), {}});
  const std::vector<std::string> names{std::string(data.substr(0, data.size() / 2))};
  const EncodeTable table =
      encode_table(MaskEncoding::kOneHot, classes.size(), select_classes(classes, nullptr, nullptr));
  if (!data.empty()) {
    const auto* label_map = reinterpret_cast<const uint8_t*>(data.data());
    check_label_map(label_map, data.size(), classes);
    std::vector<float> mask(data.size() * static_cast<size_t>(table.mask_channels));
    table.encode(label_map, data.size(), mask.data());
  }
  select_classes(classes, &names, nullptr);
}

std::filesystem::path written(std::string_view data) {
  static const std::filesystem::path path = std::filesystem::temp_directory_path() /
                                            ("seggd-fuzz-" + std::to_string(reinterpret_cast<std::uintptr_t>(&path)));
  std::ofstream(path, std::ios::binary).write(data.data(), static_cast<std::streamsize>(data.size()));
  return path;
}

void read(uint8_t kind, std::string_view data) {
  switch (kind % 5) {
    case 0:
      return read_manifest(data);
    case 1:
      return read_labels(data);
    case 2:
      external_data(std::string(data), "unet.onnx");
      return;
    case 3:
      read_safetensors(written(data));
      return;
    default:
      if (printable(printable(data)) != printable(data)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  try {
    read(data[0], {reinterpret_cast<const char*>(data + 1), size - 1});
  } catch (const Error&) {                  // what the library says of bad input
  } catch (const std::invalid_argument&) {  // what its readers say to the bundle
  } catch (const nlohmann::json::exception&) {
  }
  return 0;
}
