#include "bundle/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#ifdef _WIN32
#include <io.h>
#else
#include <unistd.h>
#endif

namespace seggd::core {
namespace {

constexpr size_t kMostAtOnce = size_t{1} << 30;  // a call of the system takes no more than 2 GiB

std::system_error failed(int code) { return {code, std::generic_category()}; }

#ifdef _WIN32
using Stat = struct _stat64;

int open_file(const std::filesystem::path& path) { return _wopen(path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT); }
int stat_of(int handle, Stat* found) { return _fstat64(handle, found); }
bool is_regular(const Stat& found) { return (found.st_mode & _S_IFMT) == _S_IFREG; }
int64_t read_some(int handle, char* data, size_t size) { return _read(handle, data, static_cast<unsigned>(size)); }
void close_file(int handle) { _close(handle); }
#else
using Stat = struct stat;

// O_NONBLOCK: to open a pipe would wait until somebody writes into it.
int open_file(const std::filesystem::path& path) {
  return open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}
int stat_of(int handle, Stat* found) { return fstat(handle, found); }
bool is_regular(const Stat& found) { return S_ISREG(found.st_mode); }
int64_t read_some(int handle, char* data, size_t size) { return ::read(handle, data, size); }
void close_file(int handle) { close(handle); }
#endif

}  // namespace

RegularFile::RegularFile(const std::filesystem::path& path) : handle_(open_file(path)) {
  if (handle_ < 0) throw failed(errno);
  Stat found{};
  const int code = stat_of(handle_, &found) != 0 ? errno : is_regular(found) ? 0 : EINVAL;
  if (code != 0) {
    close_file(handle_);
    throw failed(code);
  }
  size_ = static_cast<uint64_t>(found.st_size);
}

RegularFile::~RegularFile() { close_file(handle_); }

std::string RegularFile::read() const {
  std::string data(static_cast<size_t>(size_), '\0');
  size_t filled = 0;
  while (filled < data.size()) {
    const auto count = read_some(handle_, data.data() + filled, std::min(data.size() - filled, kMostAtOnce));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw failed(errno);
    if (count == 0) break;
    filled += static_cast<size_t>(count);
  }
  data.resize(filled);
  return data;
}

}  // namespace seggd::core
