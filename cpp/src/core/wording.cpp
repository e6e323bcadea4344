#include "core/wording.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

namespace seggd::core {
namespace {

// Levenshtein's distance.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] != b[j] ? 1 : 0);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, diagonal + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string all;
  for (const std::string& part : parts) {
    if (!all.empty()) all += between;
    all += part;
  }
  return all;
}

std::string shown(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", number);
  return text;
}

std::string folded(std::string_view text) {
  std::string lower(text);
  for (char& letter : lower)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return lower;
}

std::string_view stripped(std::string_view text) {
  const std::string_view spaces = " \t\n\v\f\r";
  const size_t first = text.find_first_not_of(spaces);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(spaces) - first + 1);
}

std::string nearest(const std::string& name, const std::vector<std::string>& names) {
  constexpr size_t kLongest = 128;  // a name that is longer is no slip of the keys
  std::string best;
  if (name.size() > kLongest) return best;
  size_t least = name.size() / 2 + 1;  // more than half of it wrong is another name
  for (const std::string& candidate : names) {
    const size_t apart = candidate.size() > kLongest ? least : distance(folded(name), folded(candidate));
    if (apart < least) least = apart, best = candidate;
  }
  return best;
}

std::string hint(const std::string& name, const std::vector<std::string>& names) {
  const std::string near = nearest(name, names);
  return near.empty() ? "there are " + joined(names) : "did you mean '" + near + "'?";
}

}  // namespace seggd::core
