#include "bundle/json.h"

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace {

using namespace seggd::core;

// What read_json says of a document, "" where it takes it.
std::string refusal(const std::string& data) {
  try {
    read_json(data);
    return "";
  } catch (const Invalid& error) {
    return error.what();
  }
}

std::string list_of(int count, const std::string& value) {
  std::string list = "[";
  for (int i = 0; i < count; ++i) list += (i ? "," : "") + value;
  return list + "]";
}

std::string nested(int levels, const std::string& open, const std::string& close) {
  std::string data = "1";
  for (int i = 0; i < levels; ++i) data = open + data + close;
  return data;
}

void expect_refused(const std::string& data, const std::string& message) {
  EXPECT_NE(refusal(data).find(message), std::string::npos) << refusal(data);
}

TEST(Json, IsRead) {
  const Json read = read_json(R"( {"a": [1, -2, 2.5, true, null], "b": {"a": "\u00e9"}} )");
  EXPECT_EQ(read.at("a").size(), 5u);
  EXPECT_EQ(read.at("b").at("a"), "\xc3\xa9");
}

TEST(Json, TheNumberOfValuesHasALimit) {
  EXPECT_EQ(refusal(list_of(kMaxJsonValues - 1, "0")), "");
  for (const char* value : {"0", "-1", "0.5", "null", "true", "\"\"", "{}", "[]"})
    expect_refused(list_of(kMaxJsonValues, value), "more than 65536 values");
  expect_refused(list_of(400'000, "{}"), "more than 65536 values");
}

TEST(Json, AKeyComesOnce) {
  expect_refused(R"({"a": 1, "b": 2, "a": 3})", "the key 'a' twice");
  expect_refused(R"({"a": 1, "\u0061": 3})", "the key 'a' twice");
  expect_refused(R"([{"b": {"a": {"a": 1}, "a": 2}}])", "the key 'a' twice");
  EXPECT_EQ(refusal(R"([{"a": 1}, {"a": {"a": [{"a": 2}]}}])"), "");
}

// As tests/files/test_strict_json.py.
TEST(Json, AWholeNumberHas64Bits) {
  for (const char* data : {"18446744073709551615", "-9223372036854775808", "1e30", "18446744073709551616.0"})
    EXPECT_EQ(refusal(data), "") << data;
  expect_refused("18446744073709551616", "a whole number has more than 64 bits (18446744073709551616)");
  expect_refused("[-9223372036854775809]", "a whole number has more than 64 bits (-9223372036854775809)");
  expect_refused(std::string(300, '9'), "64 bits (" + std::string(40, '9') + ")");
}

TEST(Json, NestingHasALimit) {
  for (const auto& [open, close] : {std::pair{"[", "]"}, std::pair{"{\"a\":", "}"}}) {
    EXPECT_EQ(refusal(nested(kMaxNesting, open, close)), "");
    expect_refused(nested(1000, open, close), "nested more than 32 levels");
    EXPECT_NO_THROW(check_nesting(Json::parse(nested(kMaxNesting, open, close))));
    EXPECT_THROW(check_nesting(Json::parse(nested(kMaxNesting + 1, open, close))), Invalid);
  }
  expect_refused(std::string(100'000, '['), "nested more than 32 levels");
}

TEST(Json, WhatNlohmannWouldPassOver) {
  expect_refused("\xef\xbb\xbf{}", "byte order mark");
  expect_refused(std::string("{}\0", 3), "zero byte");
  expect_refused(std::string("{}\0junk", 7), "zero byte");
}

TEST(Json, WhatIsNoJson) {
  for (const char* data : {"", "{", "{}{}", "[1,]", "{\"a\":1e999}", "NaN", "\"\xff\"", "\"\xed\xa0\x80\"", "// x\n{}"})
    EXPECT_NE(refusal(data), "") << data;
}

}  // namespace
