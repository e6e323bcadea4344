#include "core/printable.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace {

using namespace seggd::core;

TEST(Printable, LettersOfEveryLanguageStay) {
  for (const std::string text : {"left ventricle", "Ödem", "心室", "желудочек", "\xf0\x9f\xab\x80", ""}) {
    EXPECT_TRUE(is_printable(text)) << text;
    EXPECT_EQ(printable(text), text);
  }
}

// As tests/test_terminal.py.
TEST(Printable, WhatMovesHidesOrReversesTextIsEscaped) {
  const std::vector<std::pair<std::string, std::string>> all{{std::string(1, '\0'), "\\u0000"},
                                                             {"\x1b[2J", "\\u001b[2J"},
                                                             {"a\nb", "a\\u000ab"},
                                                             {"\x7f", "\\u007f"},
                                                             {"\u0085", "\\u0085"},
                                                             {"\u200b", "\\u200b"},
                                                             {"\u2028", "\\u2028"},
                                                             {"a\u202eb", "a\\u202eb"},
                                                             {"\u2066", "\\u2066"},
                                                             {"\ufeff", "\\ufeff"},
                                                             {"\U000e0041", "\\udb40\\udc41"},
                                                             {"\U0010fffd", "\\udbff\\udffd"}};
  for (const auto& [text, shown] : all) {
    EXPECT_FALSE(is_printable(text)) << shown;
    EXPECT_EQ(printable(text), shown);
  }
}

TEST(Printable, SpacesBeyondAsciiAreShownAndBelongToNoName) {
  for (const std::string text : {"a\u00a0b", "\u2003", "\u202f", "\u3000"}) {
    EXPECT_FALSE(is_printable(text)) << text;
    EXPECT_EQ(printable(text), text);
  }
}

TEST(Printable, BytesThatAreNotUtf8AreEscaped) {
  EXPECT_EQ(printable("a\xff"), "a\\udcff");
  EXPECT_EQ(printable("\xc3"), "\\udcc3");                        // not whole
  EXPECT_EQ(printable("\xc0\xaf"), "\\udcc0\\udcaf");             // longer than it must be
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\udced\\udca0\\udc80");  // half of a pair
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\udcf4\\udc90\\udc80\\udc80");
  EXPECT_EQ(printable("\xe2\x80z"), "\\udce2\\udc80z");
  for (const char* text : {"a\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"})
    EXPECT_FALSE(is_utf8(text));
  EXPECT_TRUE(is_utf8("\u00e9\U0010fffd\x1b") && is_utf8(""));
}

TEST(Printable, MessagesOfErrorsAreAndEndAtNoZeroByte) {
  const std::string text("a\0\x1b", 3);
  EXPECT_STREQ(Error(SEGGD_DATA, text).what(), "a\\u0000\\u001b");
  EXPECT_STREQ(Invalid(text).what(), "a\\u0000\\u001b");
}

}  // namespace
