// SHA-256 by the system's own library: libcrypto, or CNG on Windows. Both use the CPU's SHA instructions, which make
// half a gigabyte of weights a matter of a third of a second; a portable implementation takes two.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace seggd::core {

// In 64 lowercase hexadecimal digits.
std::string sha256(std::string_view data);

// Of a file; throws std::system_error where it cannot be read.
std::string sha256_of(const std::filesystem::path& path);

}  // namespace seggd::core
