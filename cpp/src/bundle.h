// An opened bundle: its folder, its manifest, and its files, hashed when they are first used.
#pragma once

#include <filesystem>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "manifest.h"

namespace seggd::core {

// The golden run, made by PyTorch in fp32 at export.
struct Golden {
  std::vector<uint8_t> label_map;      // (H, W)
  std::vector<float> noise;            // (C, H, W): the start of the run
  std::vector<float> states, outputs;  // (n, C, H, W): along the run, and the network's outputs there
  std::vector<int64_t> timesteps;      // (n)
  std::vector<float> image;            // (C, H, W) in [0, 1]: the end of the run
};

// One hash over all files of a graph, as the manifest states them: engines/seggd_engines/graph_files.py.
std::string graph_digest(const Graph& graph);

class Bundle {
 public:
  // SEGGD_BUNDLE where there is none; what parse_manifest throws.
  explicit Bundle(const std::filesystem::path& folder);

  const Manifest& manifest() const { return manifest_; }
  const std::string& sha256() const { return sha256_; }  // of bundle.json

  // The graph of a precision; SEGGD_BUNDLE where there is none.
  const Graph& graph(Precision precision) const;

  // The path of a graph's ONNX file after verifying all its files. SEGGD_INTEGRITY where one is missing or changed, or
  // the graph names external data that the manifest does not.
  std::filesystem::path graph_file(const Graph& graph) const;

  // SEGGD_INTEGRITY where its file is missing or changed, holds something else, or the manifest was edited.
  Golden golden() const;

  // Hashes every file.
  void verify() const;

 private:
  std::filesystem::path file(const FileRef& ref) const;
  std::filesystem::path onnx_file(const std::vector<FileRef>& files) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  std::string sha256_;
  mutable std::mutex mutex_;
  mutable std::set<std::string> verified_;
};

}  // namespace seggd::core
