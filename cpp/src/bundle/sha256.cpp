#include "bundle/sha256.h"

#include <array>
#include <cerrno>
#include <fstream>
#include <memory>
#include <system_error>
#include <vector>

#include "core/error.h"

#ifdef _WIN32
#include <windows.h>
// After windows.h, whose types it needs.
#include <bcrypt.h>
#else
#include <openssl/evp.h>
#endif

namespace seggd::core {
namespace {

using Digest = std::array<unsigned char, 32>;

void require(bool done) {
  if (!done) throw Error(SEGGD_INTERNAL, "the system's SHA-256 failed");
}

#ifdef _WIN32
class Hasher {
 public:
  Hasher() { require(BCryptCreateHash(algorithm(), &hash_, nullptr, 0, nullptr, 0, 0) >= 0); }
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  ~Hasher() { BCryptDestroyHash(hash_); }
  void add(const char* data, size_t size) {
    auto* bytes = reinterpret_cast<unsigned char*>(const_cast<char*>(data));
    require(BCryptHashData(hash_, bytes, static_cast<ULONG>(size), 0) >= 0);
  }
  Digest finish() {
    Digest digest;
    require(BCryptFinishHash(hash_, digest.data(), static_cast<ULONG>(digest.size()), 0) >= 0);
    return digest;
  }

 private:
  // Opened once: it may be shared, and costs more than a small file's hash.
  static BCRYPT_ALG_HANDLE algorithm() {
    static const BCRYPT_ALG_HANDLE opened = [] {
      BCRYPT_ALG_HANDLE handle = nullptr;
      require(BCryptOpenAlgorithmProvider(&handle, BCRYPT_SHA256_ALGORITHM, nullptr, 0) >= 0);
      return handle;
    }();
    return opened;
  }

  BCRYPT_HASH_HANDLE hash_ = nullptr;
};
#else
class Hasher {
 public:
  Hasher() { require(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1); }
  void add(const char* data, size_t size) { require(EVP_DigestUpdate(context_.get(), data, size) == 1); }
  Digest finish() {
    Digest digest;
    require(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1);
    return digest;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};
#endif

std::string hexadecimal(const Digest& digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

std::string sha256(std::string_view data) {
  Hasher hasher;
  hasher.add(data.data(), data.size());
  return hexadecimal(hasher.finish());
}

std::string sha256_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::system_error(errno, std::generic_category());
  Hasher hasher;
  std::vector<char> block(size_t{1} << 20);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    hasher.add(block.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) throw std::system_error(EIO, std::generic_category());
  return hexadecimal(hasher.finish());
}

}  // namespace seggd::core
