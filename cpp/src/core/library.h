// A shared library that is loaded at run time, by the system's own way.
#pragma once

#include <filesystem>
#include <string>

namespace seggd::core {

// Stays loaded until the process ends: threads of such libraries may outlive their last use here.
class Library {
 public:
  // SEGGD_ENGINE_UNAVAILABLE with the system's reason where it cannot be loaded.
  explicit Library(const std::filesystem::path& path);

  // The function of a name, or null.
  template <class Function>
  Function* find(const char* name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  void* handle_;
};

// An environment variable in UTF-8, "" where it is not set.
std::string environment(const char* name);

}  // namespace seggd::core
