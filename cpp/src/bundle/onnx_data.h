// A strict, small reading of an ONNX file's structure, before any engine sees it: seggd_rt/bundle/onnx_data.py.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace seggd::core {

// How many bytes of each location of external data, relative to the file, one plain graph needs. `control_flow` allows
// loops and branches, for a graph that engines of others run. SEGGD_INTEGRITY, which calls the file `name`, where the
// bytes are another format, damaged, or no plain graph.
std::map<std::string, uint64_t> external_data(const std::string& data, const std::string& name,
                                              bool control_flow = false);

}  // namespace seggd::core
