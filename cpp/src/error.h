// The one exception inside the library; the C ABI turns it into a status and a message.
#pragma once

#include <seggd/seggd.h>

#include <stdexcept>
#include <string>

namespace seggd::core {

class Error : public std::runtime_error {
 public:
  Error(seggd_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  seggd_status status() const { return status_; }

 private:
  seggd_status status_;
};

}  // namespace seggd::core
