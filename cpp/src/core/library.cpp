#include "core/library.h"

#include <cstdlib>
#include <system_error>

#include "core/error.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace seggd::core {

#ifdef _WIN32
Library::Library(const std::filesystem::path& path) {
  // Beside an absolute path lie the libraries that it needs.
  const DWORD flags = path.is_absolute() ? LOAD_WITH_ALTERED_SEARCH_PATH : 0;
  handle_ = LoadLibraryExW(path.c_str(), nullptr, flags);
  if (handle_) return;
  const std::error_code reason(static_cast<int>(GetLastError()), std::system_category());
  throw Error(SEGGD_ENGINE_UNAVAILABLE, "it cannot be loaded (" + path.u8string() + ": " + reason.message() + ")");
}

void* Library::symbol(const char* name) const {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle_), name));
}

std::string environment(const char* name) {
  const std::wstring wide(name, name + std::char_traits<char>::length(name));
  const wchar_t* value = _wgetenv(wide.c_str());
  return value ? std::filesystem::path(value).u8string() : "";
}
#else
Library::Library(const std::filesystem::path& path) : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (handle_) return;
  const char* reason = dlerror();
  throw Error(SEGGD_ENGINE_UNAVAILABLE, std::string("it cannot be loaded (") + (reason ? reason : "no reason") + ")");
}

void* Library::symbol(const char* name) const { return dlsym(handle_, name); }

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}
#endif

}  // namespace seggd::core
