// Reads JSON that others wrote, within bounds.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace seggd::core {

using Json = nlohmann::json;

// How many values one document may have: objects, lists and what they hold. The largest manifest has 256 classes, which
// take 1,800 values, and as many bounds of a segmenter's classes, which take 1,000. The rest is room for training
// notes, evaluations and extensions. The bound keeps a hostile document of 16 MiB from taking a hundred times that in
// memory.
inline constexpr int kMaxJsonValues = 1 << 16;

// How many lists and objects may lie in each other where a value has no known form: seggd_rt/files/limits.py.
inline constexpr int kMaxNesting = 32;

// Parses a document. Throws Invalid where it is not JSON in UTF-8, an object has a key twice, a whole number has more
// than 64 bits, it has more than kMaxJsonValues values, or they are nested too deeply.
Json read_json(std::string_view data);

// Throws Invalid where lists and objects lie in each other more than so many levels deep.
void check_nesting(const Json& value, int levels = kMaxNesting);

}  // namespace seggd::core
