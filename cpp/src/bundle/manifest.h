// Everything bundle.json states: seggd_rt/bundle/manifest.py's records.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/labels.h"
#include "core/precision.h"
#include "core/samplers.h"
#include "core/schedule.h"

namespace seggd::core {

inline constexpr std::string_view kSchema = "seggd-bundle/1";
inline constexpr std::string_view kManifest = "bundle.json";
inline constexpr std::string_view kSignature = "bundle.sig";  // may lie beside it; this library does not check it
inline constexpr size_t kMaxManifestBytes = size_t{16} << 20;

struct FileRef {
  std::string path, sha256;
  uint64_t size = 0;

  bool operator==(const FileRef& other) const {
    return path == other.path && sha256 == other.sha256 && size == other.size;
  }
};

struct ImageSpec {
  int channels = 0, height = 0, width = 0;

  size_t pixels() const { return static_cast<size_t>(height) * static_cast<size_t>(width); }
  size_t elements() const { return pixels() * static_cast<size_t>(channels); }
};

struct MaskSpec {
  MaskEncoding encoding = MaskEncoding::kOneHot;
  std::optional<bool> trained_with_ablation, trained_with_empty_mask;
};

// The graph's own file first, then its external data.
struct Graph {
  Precision precision = Precision::kFp32;
  std::vector<FileRef> files;
};

struct Defaults {
  Sampler sampler = Sampler::kDdim;
  int steps = 0;
};

struct Manifest {
  std::string name;
  ImageSpec image;
  std::vector<LabelClass> classes;
  MaskSpec mask;
  NoiseSchedule schedule;
  std::vector<Graph> graphs;
  FileRef check_file;
  int check_steps = 0;
  Defaults defaults;
  std::optional<std::pair<double, double>> intensity_range;
  std::vector<FileRef> sampler_files;    // of the sampling loop as one graph, its own first; none where there is none
  std::vector<FileRef> segmenter_files;  // of the segmenter, likewise

  int mask_channels() const { return core::mask_channels(mask.encoding, classes.size()); }
};

// Reads a manifest; `where` names it in errors. SEGGD_BUNDLE_VERSION where it follows a newer schema, SEGGD_MANIFEST
// where it is not JSON, has an unknown key, lacks one, or a value is outside its range.
Manifest parse_manifest(std::string_view data, const std::string& where);

}  // namespace seggd::core
