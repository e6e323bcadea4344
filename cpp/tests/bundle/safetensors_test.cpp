#include "bundle/safetensors.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "tests/golden.h"

namespace {

using namespace seggd::core;

std::string file_of(const std::string& header, const std::string& data) {
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return length + header + data;
}

// What read_safetensors says of a file, "" where it takes it.
std::string refusal(const std::string& header, const std::string& data) {
  const golden::Copy folder;
  golden::write(folder.file("file.safetensors"), file_of(header, data));
  try {
    read_safetensors(folder.file("file.safetensors"));
    return "";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

std::string bytes(const std::string& name, int begin, int end) {
  return '"' + name + R"(": {"dtype": "U8", "shape": [)" + std::to_string(end - begin) + R"(], "data_offsets": [)" +
         std::to_string(begin) + ", " + std::to_string(end) + "]}";
}

std::string header_of(const std::vector<std::string>& entries) {
  std::string header;
  for (const std::string& entry : entries) header += (header.empty() ? "{" : ", ") + entry;
  return header + "}";
}

TEST(Safetensors, AreRead) {
  EXPECT_EQ(refusal(header_of({bytes("b", 4, 6), bytes("a", 0, 4)}), "123456"), "");
  EXPECT_EQ(refusal(header_of({bytes("a", 0, 4), bytes("none", 4, 4), bytes("b", 4, 6)}), "123456"), "");
  EXPECT_EQ(refusal(R"({"__metadata__": {"key": "text"}})", ""), "");
}

// Each of these the safetensors package refuses too: tests/bundle/test_bundle.py.
TEST(Safetensors, EveryByteBelongsToOneTensor) {
  const std::string overlap = "its tensors overlap, or leave bytes between them";
  EXPECT_EQ(refusal(header_of({bytes("a", 0, 4), bytes("b", 2, 6)}), "123456"), overlap);
  EXPECT_EQ(refusal(header_of({bytes("a", 0, 6), bytes("b", 0, 6)}), "123456"), overlap);
  EXPECT_EQ(refusal(header_of({bytes("a", 0, 2), bytes("b", 4, 6)}), "123456"), overlap);
  EXPECT_EQ(refusal(header_of({bytes("a", 2, 6)}), "123456"), overlap);
  EXPECT_EQ(refusal(header_of({bytes("a", 0, 4)}), "123456"), "it has bytes after its last tensor");
  EXPECT_EQ(refusal("{}", "1"), "it has bytes after its last tensor");
}

TEST(Safetensors, ATensorComesOnce) {
  EXPECT_EQ(refusal(header_of({bytes("a", 0, 4), bytes("a", 4, 6)}), "123456"), "an object has the key 'a' twice");
}

TEST(Safetensors, AHeaderEndsWhereItSays) {
  const std::string header = header_of({bytes("a", 0, 4)});
  EXPECT_EQ(refusal(header + "   ", "1234"), "");  // spaces may fill it up
  EXPECT_EQ(refusal(header + std::string(1, '\0'), "1234"), "it has a zero byte");
  EXPECT_EQ(refusal(header + std::string("\0{", 2), "1234"), "it has a zero byte");
}

}  // namespace
