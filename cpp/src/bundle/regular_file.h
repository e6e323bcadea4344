// A file of others, opened with care: seggd_rt/files/limits.py's open_regular.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace seggd::core {

class RegularFile {
 public:
  // Opens a file to read its bytes. Throws std::system_error where that fails, where its path ends in a link, and where
  // it is a folder, a pipe, a socket or a device, which are not waited for.
  explicit RegularFile(const std::filesystem::path& path);
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;
  ~RegularFile();

  // How many bytes it had when it was opened.
  uint64_t size() const { return size_; }

  // Reads its bytes from the start: as many as it had when it was opened, or fewer where it was cut since. Once only.
  // Throws std::system_error where that fails.
  std::string read() const;

 private:
  int handle_;
  uint64_t size_ = 0;
};

}  // namespace seggd::core
