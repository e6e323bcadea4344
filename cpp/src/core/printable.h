// Which characters may be shown: none that moves the cursor, changes the direction of text, or cannot be seen.
#pragma once

#include <string>
#include <string_view>

namespace seggd::core {

// Whether every character of a UTF-8 text may be shown, as Python's str.isprintable tells it. Characters that Unicode
// has not assigned count as printable here: this table lists none of them.
bool is_printable(std::string_view text);

// Whether bytes are UTF-8, as Python decodes it: in its shortest form, without halves of surrogate pairs.
bool is_utf8(std::string_view text);

// A text in which JSON's escapes, such as \u001b, stand for every character that may not be shown but spaces, and for
// every byte that is not UTF-8: seggd_rt.wording.printable.
std::string printable(std::string_view text);

}  // namespace seggd::core
