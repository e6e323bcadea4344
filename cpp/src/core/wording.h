// Names and lists in messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace seggd::core {

// "a, b, c".
std::string joined(const std::vector<std::string>& parts, std::string_view between = ", ");

// As Python's "%g": 0.5, 1e-05.
std::string shown(double number);

// ASCII letters in lower case; other bytes stay as they are.
std::string folded(std::string_view text);

// Without the spaces around it.
std::string_view stripped(std::string_view text);

// Of `names` the one that differs from `name` by the fewest letters, "" where none is near.
std::string nearest(const std::string& name, const std::vector<std::string>& names);

// "did you mean 'x'?", else "there are a, b".
std::string hint(const std::string& name, const std::vector<std::string>& names);

}  // namespace seggd::core
