// An opened bundle: its folder, its manifest, and its files, which are read into memory and hashed there.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bundle/manifest.h"
#include "core/network.h"

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

  // A graph and its external data, verified. SEGGD_INTEGRITY where a file is missing or changed, or the graph is not
  // plain, or names external data that the manifest does not.
  GraphFile graph_file(const Graph& graph) const;

  // SEGGD_INTEGRITY where its file is missing or changed, holds something else, or the manifest was edited.
  Golden golden() const;

  // Hashes every file.
  void verify() const;

 private:
  std::string read(const FileRef& ref) const;
  GraphFile onnx_file(const std::vector<FileRef>& files, bool control_flow = false) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  std::string sha256_;
};

}  // namespace seggd::core
