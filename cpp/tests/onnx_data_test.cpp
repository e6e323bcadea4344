#include "onnx_data.h"

#include <gtest/gtest.h>

#include "golden.h"

namespace {

golden::Outcome walked(const std::string& data) {
  const golden::Copy copy;
  golden::write(copy.file("unet.fp32.onnx"), data);
  return golden::outcome([&] { seggd::core::external_locations(copy.file("unet.fp32.onnx")); });
}

TEST(OnnxData, AGraphInOnePieceNamesNothing) {
  EXPECT_TRUE(seggd::core::external_locations(golden::bundle("tiny") + "/unet.fp32.onnx").empty());
}

TEST(OnnxData, WhatIsNoWholeMessageIsRefused) {
  const std::string whole = golden::read(golden::bundle("tiny") + "/unet.fp32.onnx");
  for (const size_t size : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1})
    EXPECT_EQ(walked(whole.substr(0, size)).status, SEGGD_INTEGRITY) << size;
  EXPECT_EQ(walked(std::string(20, '\xff')).status, SEGGD_INTEGRITY);         // a number without end
  EXPECT_EQ(walked("\xba\x80\x80\x80\x80\x01\x00").status, SEGGD_INTEGRITY);  // a tag beyond 32 bits
  // A size beyond 64 bits, of which the lower ones are a small size.
  EXPECT_EQ(walked(std::string("\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", 11)).status, SEGGD_INTEGRITY);
  EXPECT_EQ(walked("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f").status, SEGGD_INTEGRITY);
}

TEST(OnnxData, DepthHasAnEnd) {
  // Graphs in attributes of nodes of graphs: 7 -> 1 -> 5 -> 6 -> 1 -> ...
  std::string inner;
  const auto wrap = [&inner](char tag) {
    std::string size;
    for (size_t left = inner.size();; left >>= 7) {
      size += static_cast<char>((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
      if (left <= 0x7f) break;
    }
    inner = tag + size + inner;
  };
  for (int i = 0; i < 40; ++i)
    for (const char tag : {'\x32', '\x2a', '\x0a'}) wrap(tag);
  wrap('\x3a');
  EXPECT_EQ(walked(inner).status, SEGGD_INTEGRITY);
}

}  // namespace
