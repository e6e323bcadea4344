// Structs whose first member is their size: what a caller of another version knows of them is read and written.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"

namespace seggd::core {

// A size that was not set, or is what happened to lie in memory, is refused before anything is read by it.
template <class Struct>
size_t checked_size(const Struct* given, const std::string& name) {
  constexpr size_t kMost = 4096;
  if (!given) throw Error(SEGGD_ARGUMENT, name + " is a null pointer");
  if (given->struct_size <= sizeof(size_t) || given->struct_size > kMost)
    throw Error(SEGGD_ARGUMENT, name + ".struct_size is not set to the struct's size");
  return given->struct_size;
}

// A caller's struct as this library knows it: what the caller does not know is 0.
// SEGGD_ARGUMENT where its size was not set, SEGGD_OPTION where a newer caller sets what this library does not know.
template <class Struct>
Struct read_struct(const Struct* given, const std::string& name) {
  Struct known{};
  const size_t size = checked_size(given, name);
  const char* bytes = reinterpret_cast<const char*>(given);
  for (size_t i = sizeof(Struct); i < size; ++i)
    if (bytes[i] != 0)
      throw Error(SEGGD_OPTION, name + " sets what this version of the library does not know: upgrade it");
  std::memcpy(&known, given, std::min(size, sizeof(Struct)));
  return known;
}

// Writes what the caller knows of a struct, and zeros for what this library does not.
template <class Struct>
void write_struct(Struct known, Struct* to, const std::string& name) {
  const size_t size = checked_size(to, name);
  known.struct_size = size;
  std::memcpy(to, &known, std::min(size, sizeof(Struct)));
  if (size > sizeof(Struct)) std::memset(reinterpret_cast<char*>(to) + sizeof(Struct), 0, size - sizeof(Struct));
}

}  // namespace seggd::core
