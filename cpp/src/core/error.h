// The library's exceptions. Messages quote files of others, and are printable from here on: a terminal may show them,
// and what(), a C string, would end at a zero byte.
#pragma once

#include <seggd/seggd.h>

#include <stdexcept>
#include <string>

#include "core/printable.h"

namespace seggd::core {

// What every call of the library throws; the C ABI turns it into a status and a message.
class Error : public std::runtime_error {
 public:
  Error(seggd_status status, const std::string& message) : std::runtime_error(printable(message)), status_(status) {}
  seggd_status status() const { return status_; }

 private:
  seggd_status status_;
};

// What a file states is not valid. Whoever knows the file turns it into an Error that names it.
class Invalid : public std::invalid_argument {
 public:
  explicit Invalid(const std::string& message) : std::invalid_argument(printable(message)) {}
};

}  // namespace seggd::core
