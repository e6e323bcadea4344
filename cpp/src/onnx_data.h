// Which external data files an ONNX file names, read from its bytes alone: seggd_rt/onnx_data.py.
//
// A bundle must know all of them before an engine opens the graph: a location outside the folder would make the engine
// read any file of this machine.
#pragma once

#include <filesystem>
#include <set>
#include <string>

namespace seggd::core {

// Locations, relative to the ONNX file. SEGGD_INTEGRITY where the file is no whole protobuf message.
std::set<std::string> external_locations(const std::filesystem::path& path);

}  // namespace seggd::core
