// Reads a .safetensors file: a length, a JSON header of names, types, shapes and places, then the numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace seggd::core {

struct Tensor {
  std::string dtype;  // "F32", "I64", "U8"
  std::vector<int64_t> shape;
  std::string bytes;

  // The numbers, as a type of the dtype's size; "F32" is read as float, and so on.
  template <class Number>
  std::vector<Number> as() const;
};

struct Safetensors {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Tensor> tensors;
};

// Throws Invalid where the bytes are no such file.
Safetensors parse_safetensors(const std::string& all);

// Throws Invalid where the file is not one.
Safetensors read_safetensors(const std::filesystem::path& path);

}  // namespace seggd::core
