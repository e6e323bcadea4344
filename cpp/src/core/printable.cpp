#include "core/printable.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iterator>

namespace seggd::core {
namespace {

struct Range {
  uint32_t first, last;
};

// Unicode's control, format and private-use characters, and its separators of lines and paragraphs.
constexpr Range kHidden[] = {
    {0x0, 0x1f},        {0x7f, 0x9f},       {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
    {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},     {0x8e2, 0x8e2},     {0x180e, 0x180e},
    {0x200b, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x206f},   {0xe000, 0xf8ff},   {0xfeff, 0xfeff},
    {0xfff9, 0xfffb},   {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1343f}, {0x1bca0, 0x1bca3},
    {0x1d173, 0x1d17a}, {0xe0001, 0xe0001}, {0xe0020, 0xe007f}, {0xf0000, 0xffffd}, {0x100000, 0x10fffd}};
// Its spaces but the one of ASCII.
constexpr Range kSpaces[] = {{0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a},
                             {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}};

template <size_t N>
bool is_in(const Range (&ranges)[N], uint32_t code) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [code](const Range& range) { return range.first <= code && code <= range.last; });
}

struct Character {
  uint32_t code;
  size_t bytes;
  bool valid;  // else it is one byte that is not UTF-8
};

Character next(std::string_view text) {
  const auto byte = [&text](size_t at) { return static_cast<unsigned char>(text[at]); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};  // below it a shorter form exists
  if (lead < 0xc0 || lead > 0xf7 || bytes > text.size()) return {lead, 1, false};
  uint32_t code = lead & (0x7fu >> bytes);
  for (size_t at = 1; at < bytes; ++at) {
    if ((byte(at) & 0xc0) != 0x80) return {lead, 1, false};
    code = code << 6 | (byte(at) & 0x3f);
  }
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (code < kLeast[bytes] || code > 0x10ffff || surrogate) return {lead, 1, false};
  return {code, bytes, true};
}

// Beyond 16 bits JSON writes a pair of surrogates. A byte that is not UTF-8 is half of a pair, as in Python.
std::string escape(const Character& character) {
  char text[16];
  if (character.code > 0xffff) {
    const unsigned above = character.code - 0x10000;
    std::snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800 + (above >> 10), 0xdc00 + (above & 0x3ff));
  } else {
    std::snprintf(text, sizeof text, "\\u%04x", static_cast<unsigned>(character.code + (character.valid ? 0 : 0xdc00)));
  }
  return text;
}

}  // namespace

bool is_printable(std::string_view text) {
  while (!text.empty()) {
    const Character character = next(text);
    if (!character.valid || is_in(kHidden, character.code) || is_in(kSpaces, character.code)) return false;
    text.remove_prefix(character.bytes);
  }
  return true;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Character character = next(text);
    if (!character.valid) return false;
    text.remove_prefix(character.bytes);
  }
  return true;
}

std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const Character character = next(text);
    if (!character.valid || is_in(kHidden, character.code)) {
      shown += escape(character);
    } else {
      shown += text.substr(0, character.bytes);
    }
    text.remove_prefix(character.bytes);
  }
  return shown;
}

}  // namespace seggd::core
