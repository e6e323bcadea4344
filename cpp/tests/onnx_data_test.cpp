#include "onnx_data.h"

#include <gtest/gtest.h>

#include <tuple>

#include "golden.h"

namespace {

using Needed = std::map<std::string, uint64_t>;

Needed read(const std::string& data, bool control_flow = false) {
  return seggd::core::external_data(data, "unet.onnx", control_flow);
}

// What is said of a file, "" where it is a plain graph.
std::string said(const std::string& data, bool control_flow = false) {
  const golden::Outcome found = golden::outcome([&] { read(data, control_flow); });
  EXPECT_TRUE(found.message.empty() || found.status == SEGGD_INTEGRITY) << found.message;
  return found.message;
}

std::string varint(uint64_t value) {
  std::string all;
  for (; value > 0x7f; value >>= 7) all += static_cast<char>((value & 0x7f) | 0x80);
  return all + static_cast<char>(value);
}

std::string field(uint64_t number, const std::string& content) {
  return varint(number << 3 | 2) + varint(content.size()) + content;
}

std::string entry(const std::string& key, const std::string& value) {
  return field(13, field(1, key) + field(2, value));
}

const std::string kVersion("\x08\x0a"), kOpset = field(8, "\x10\x14"), kNode = field(1, field(4, "Neg"));
const std::string kExternal("\x70\x01");

// A model of one node and what a graph is to have beside it.
std::string model(const std::string& graph, const std::string& more = "") {
  return kVersion + field(7, kNode + graph) + kOpset + more;
}

std::string tensor(const std::string& location, const std::string& offset, const std::string& length) {
  return field(5, entry("location", location) + entry("offset", offset) + entry("length", length) + kExternal);
}

TEST(OnnxData, AGraphInOnePieceNamesNothing) {
  EXPECT_TRUE(read(golden::read(golden::bundle("tiny") + "/unet.fp32.onnx")).empty());
  EXPECT_EQ(said(model("")), "");
}

TEST(OnnxData, HowMuchExternalDataIsNeeded) {
  EXPECT_EQ(read(model(tensor("w", "8", "4") + tensor("w", "16", "4") + tensor("v", "0", "4"))),
            (Needed{{"w", 20}, {"v", 4}}));
}

TEST(OnnxData, WhatIsNoWholeMessageIsRefused) {
  const std::string whole = golden::read(golden::bundle("tiny") + "/unet.fp32.onnx");
  for (const std::string& data :
       {std::string(), whole.substr(0, 1), whole.substr(0, whole.size() / 2), whole.substr(0, whole.size() - 1),
        field(7, kNode) + kOpset, kVersion + kOpset, kVersion + field(7, kNode), kVersion + field(7, "") + kOpset,
        field(1, "\n") + field(7, kNode) + kOpset, kVersion + field(7, field(1, "")) + kOpset,
        std::string("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), model(field(5, kExternal)),
        model(tensor("w", "-1", "4")), model(tensor("w", "18446744073709551615", "4")),
        model(field(5, entry("location", "w") + entry("location", "v")))})
    EXPECT_NE(said(data), "");
  EXPECT_NE(said(std::string(20, '\xff')), "");  // a number without end
  // A tag beyond 64 bits, of which the lower ones are those of another entry of metadata.
  EXPECT_NE(said(model("", std::string("\xf2\x80\x80\x80\x80\x80\x80\x80\x80\x02\x00", 11))), "");
  EXPECT_NE(said(std::string("\xba\x80\x80\x80\x80\x01\x00", 7)), "");  // a tag beyond 32 bits
}

TEST(OnnxData, WhatIsNoPlainGraphIsRefused) {
  for (const auto& [data, message] :
       {std::pair{model("", field(7, kNode)), "field 7 of ModelProto twice"},
        std::pair{model("", field(20, "")), "field 20 of ModelProto"},
        std::pair{model("", field(25, "")), "field 25 of ModelProto"},
        std::pair{model(field(15, "")), "field 15 of GraphProto"},
        std::pair{model("", field(8, field(1, "com.microsoft"))), "operators of 'com.microsoft'"},
        std::pair{model(field(1, field(4, "EPContext") + field(7, "com.microsoft"))), "operators of 'com.microsoft'"},
        std::pair{model(field(1, field(4, "Neg") + field(5, field(21, "x")))), "field 21 of AttributeProto"},
        std::pair{model(field(1, field(4, "Loop"))), "control flow, 'Loop'"},
        std::pair{model(field(1, field(4, "Unheard") + field(5, field(6, kNode)))), "control flow"}})
    EXPECT_NE(said(data).find(message), std::string::npos) << message << ": " << said(data);
}

TEST(OnnxData, DepthHasAnEnd) {
  const auto nested = [](int depth) {
    std::string graph = tensor("w", "0", "4");
    for (int i = 0; i < depth; ++i) graph = field(1, field(4, "Loop") + field(5, field(6, kNode + graph)));
    return model(graph);
  };
  EXPECT_EQ(read(nested(3), true), (Needed{{"w", 4}}));
  EXPECT_NE(said(nested(40), true).find("nested more than 32 levels deep"), std::string::npos);
}

}  // namespace
