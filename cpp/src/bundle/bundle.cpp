#include "bundle/bundle.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <system_error>

#include "bundle/meaning.h"
#include "bundle/onnx_data.h"
#include "bundle/regular_file.h"
#include "bundle/safetensors.h"
#include "bundle/sha256.h"
#include "core/error.h"
#include "core/names.h"

namespace seggd::core {
namespace {

namespace fs = std::filesystem;

// Returns where a file of a bundle's folder lies, links followed, or nothing where that is another folder. What is
// opened must be the returned path: the other may lead elsewhere by then. Throws std::system_error where it leads
// nowhere.
std::optional<fs::path> inside(const fs::path& folder, const fs::path& path) {
  const fs::path found = fs::canonical(path);
  if (found.parent_path() != fs::canonical(folder)) return std::nullopt;
  return found;
}

std::string read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifest;
  std::error_code unknown;
  if (!fs::is_directory(folder, unknown) || !fs::is_regular_file(path, unknown))
    throw Error(SEGGD_BUNDLE, folder.u8string() + " is not a bundle: it must be a folder with " +
                                  std::string(kManifest) + " in it (seggd-rt export)");
  try {
    const std::optional<fs::path> found = inside(folder, path);
    if (!found)
      throw Error(SEGGD_INTEGRITY,
                  path.u8string() + " is a link that leaves the bundle's folder: copy or export it again");
    const RegularFile file(*found);
    if (file.size() > kMaxManifestBytes)
      throw Error(SEGGD_MANIFEST, path.u8string() + " is over 16 MiB: it cannot be a manifest");
    return file.read();
  } catch (const std::system_error& error) {
    throw Error(SEGGD_BUNDLE, path.u8string() + " cannot be read (" + error.code().message() + ")");
  }
}

template <class Number>
std::vector<Number> take(const Safetensors& file, const std::string& name, const std::string& dtype,
                         const std::vector<int64_t>& shape) {
  const auto found = file.tensors.find(name);
  if (found == file.tensors.end()) throw Invalid("it lacks " + name);
  const Tensor& tensor = found->second;
  if (tensor.dtype != dtype || tensor.shape != shape) throw Invalid(name + " has another type or shape");
  return tensor.as<Number>();
}

void require_finite(const std::vector<float>& numbers, const std::string& name) {
  if (!std::all_of(numbers.begin(), numbers.end(), [](float number) { return std::isfinite(number); }))
    throw Invalid(name + " is not finite");
}

Golden read_golden(const Safetensors& file, const Manifest& manifest) {
  const ImageSpec& image = manifest.image;
  const std::vector<int64_t> one{image.channels, image.height, image.width};
  const auto timesteps = file.tensors.find("timesteps");
  if (timesteps == file.tensors.end() || timesteps->second.shape.size() != 1 || timesteps->second.shape[0] == 0)
    throw Invalid("it has no state");
  const std::vector<int64_t> states{timesteps->second.shape[0], one[0], one[1], one[2]};
  Golden golden{take<uint8_t>(file, "label_map", "U8", {one[1], one[2]}),
                take<float>(file, "noise", "F32", one),
                take<float>(file, "states", "F32", states),
                take<float>(file, "outputs", "F32", states),
                take<int64_t>(file, "timesteps", "I64", {states[0]}),
                take<float>(file, "image", "F32", one)};
  if (file.tensors.size() != 6) throw Invalid("it holds more than a golden run");
  require_finite(golden.noise, "noise"), require_finite(golden.states, "states");
  require_finite(golden.outputs, "outputs"), require_finite(golden.image, "image");
  check_label_map(golden.label_map.data(), golden.label_map.size(), manifest.classes);
  return golden;
}

}  // namespace

std::string graph_digest(const Graph& graph) {
  std::vector<FileRef> files = graph.files;
  std::sort(files.begin() + 1, files.end(), [](const FileRef& a, const FileRef& b) { return a.path < b.path; });
  std::string listed;
  for (const FileRef& file : files) listed += file.path + '\0' + file.sha256 + "\n";
  return core::sha256(listed);
}

Bundle::Bundle(const fs::path& folder) : folder_(folder) {
  const std::string data = read_manifest(folder);
  manifest_ = parse_manifest(data, (folder / kManifest).u8string());
  sha256_ = core::sha256(data);
}

const Graph& Bundle::graph(Precision precision) const {
  std::vector<std::string> there;
  for (const Graph& graph : manifest_.graphs) {
    if (graph.precision == precision) return graph;
    there.emplace_back(kPrecisions.name(graph.precision));
  }
  const std::string wanted(kPrecisions.name(precision));
  throw Error(SEGGD_BUNDLE, folder_.filename().u8string() + " has no " + wanted + " graph, only " + joined(there) +
                                ": export it with --precision " + wanted);
}

std::string Bundle::read(const FileRef& ref) const {
  const fs::path path = folder_ / fs::u8path(ref.path);
  const auto broken = [&path](const std::string& what) { return Error(SEGGD_INTEGRITY, path.u8string() + " " + what); };
  try {
    if (!fs::is_regular_file(path)) throw broken("is missing: copy or export the bundle again");
    const std::optional<fs::path> found = inside(folder_, path);
    if (!found) throw broken("is a link that leaves the bundle's folder: copy or export it again");
    const RegularFile file(*found);
    // Its length first: no more is read than the manifest states.
    if (file.size() == ref.size) {
      std::string data = file.read();
      if (core::sha256(data) == ref.sha256) return data;
    }
  } catch (const std::system_error& error) {
    throw broken("cannot be read (" + error.code().message() + "): make it readable, or copy the bundle again");
  }
  throw broken("was changed after export (its SHA-256 differs): copy it again");
}

GraphFile Bundle::graph_file(const Graph& graph) const {
  GraphFile found = onnx_file(graph.files);
  found.digest = graph_digest(graph);
  return found;
}

GraphFile Bundle::onnx_file(const std::vector<FileRef>& files, bool control_flow) const {
  const std::string path = (folder_ / fs::u8path(files.front().path)).u8string();
  GraphFile graph{files.front().path, std::make_shared<const std::string>(read(files.front())), {}, ""};
  for (auto ref = files.begin() + 1; ref != files.end(); ++ref)
    graph.external[ref->path] = std::make_shared<const std::string>(read(*ref));
  for (const auto& [location, size] : external_data(*graph.model, path, control_flow)) {
    const auto listed = graph.external.find(location);
    if (listed == graph.external.end())
      throw Error(SEGGD_INTEGRITY, path + " names external data that the manifest does not list (" + location +
                                       "): export the bundle again");
    if (size > listed->second->size())
      throw Error(SEGGD_INTEGRITY,
                  path + " needs more external data than there is in " + location + ": export the bundle again");
  }
  return graph;
}

Golden Bundle::golden() const {
  const fs::path path = folder_ / fs::u8path(manifest_.check_file.path);
  const std::string data = this->read(manifest_.check_file);
  Safetensors read;
  try {
    read = parse_safetensors(data);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(SEGGD_INTEGRITY,
                path.u8string() + " does not hold a golden run (" + error.what() + "): export the bundle again");
  }
  const auto meant = read.metadata.find(std::string(kMeaningKey));
  if (meant == read.metadata.end())
    throw Error(SEGGD_INTEGRITY, path.u8string() + " does not say what " + std::string(kManifest) +
                                     " meant at export: export the bundle again");
  Json stated;
  try {
    stated = read_json(meant->second);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(SEGGD_INTEGRITY, path.u8string() + " has a damaged record of " + std::string(kManifest) + " (" +
                                     error.what() + "): export the bundle again");
  }
  if (stated != meaning(manifest_))
    throw Error(SEGGD_INTEGRITY, (folder_ / kManifest).u8string() +
                                     " was edited after export: its image, classes, mask, schedule, intensity range, "
                                     "defaults or check steps are not those the network was exported with. Copy or "
                                     "export the bundle again");
  try {
    return read_golden(read, manifest_);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(SEGGD_INTEGRITY,
                path.u8string() + " does not hold a golden run (" + error.what() + "): export the bundle again");
  }
}

void Bundle::verify() const {
  for (const Graph& graph : manifest_.graphs) graph_file(graph);
  if (!manifest_.sampler_files.empty()) onnx_file(manifest_.sampler_files, true);
  if (!manifest_.segmenter_files.empty()) onnx_file(manifest_.segmenter_files);
  golden();
}

}  // namespace seggd::core
