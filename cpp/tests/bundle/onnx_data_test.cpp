#include "bundle/onnx_data.h"

#include <gtest/gtest.h>

#include <tuple>

#include "tests/golden.h"

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

std::string tensor(const std::string& location, const std::string& offset, const std::string& length,
                   const std::string& name = "weights") {
  return field(
      5, field(8, name) + entry("location", location) + entry("offset", offset) + entry("length", length) + kExternal);
}

using Texts = std::vector<std::string>;

std::string node(const std::string& type, const Texts& inputs, const Texts& outputs, const std::string& more = "") {
  std::string all;
  for (const std::string& name : inputs) all += field(1, name);
  for (const std::string& name : outputs) all += field(2, name);
  return field(1, all + field(4, type) + more);
}

// A graph's inputs and outputs.
std::string values(const Texts& inputs, const Texts& outputs) {
  std::string all;
  for (const std::string& name : inputs) all += field(11, field(1, name));
  for (const std::string& name : outputs) all += field(12, field(1, name));
  return all;
}

const std::string kInitializer = field(5, field(8, "w"));

TEST(OnnxData, AGraphInOnePieceNamesNothing) {
  EXPECT_TRUE(read(golden::read(golden::bundle("tiny") + "/unet.fp32.onnx")).empty());
  EXPECT_EQ(said(model("")), "");
}

TEST(OnnxData, HowMuchExternalDataIsNeeded) {
  EXPECT_EQ(read(model(tensor("w", "8", "4", "a") + tensor("w", "16", "4", "b") + tensor("v", "0", "4", "c"))),
            (Needed{{"w", 20}, {"v", 4}}));
}

TEST(OnnxData, WhatIsNoWholeMessageIsRefused) {
  const std::string whole = golden::read(golden::bundle("tiny") + "/unet.fp32.onnx");
  for (const std::string& data :
       {std::string(), whole.substr(0, 1), whole.substr(0, whole.size() / 2), whole.substr(0, whole.size() - 1),
        field(7, kNode) + kOpset, kVersion + kOpset, kVersion + field(7, kNode), kVersion + field(7, "") + kOpset,
        field(1, "\n") + field(7, kNode) + kOpset, kVersion + field(7, field(1, "")) + kOpset,
        std::string("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), model(field(5, kExternal)),
        model(field(5, field(8, "w") + entry("location", "w") + entry("location", "v"))),
        // data_location: 1 in its lower 32 bits, then a number of 70 bits.
        model(field(5, field(8, "w") + "\x70" + varint(uint64_t{1} << 32 | 1))),
        model(field(5, field(8, "w") + std::string("\x70\x81\x80\x80\x80\x80\x80\x80\x80\x80\x7e", 11)))})
    EXPECT_NE(said(data), "");
  for (const char* number : {"", "-1", "+0", " 0", "1_0", "0x10", "0.5", "11111111111111111111"}) {
    EXPECT_NE(said(model(tensor("w", number, "4"))).find("not a whole ONNX file"), std::string::npos) << number;
    EXPECT_NE(said(model(tensor("w", "4", number))).find("not a whole ONNX file"), std::string::npos) << number;
  }
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
        std::pair{model("", field(8, field(1, "com.microsoft"))), "operators of the domain 'com.microsoft'"},
        std::pair{model("", field(8, "\x10" + varint(1025))), "operator set 1025"},
        std::pair{model("", field(8, "\x10" + varint(UINT64_MAX))), "operator set 18446744073709551615"},
        std::pair{model(field(1, field(4, "EPContext") + field(7, "com.microsoft"))),
                  "operators of the domain 'com.microsoft'"},
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

// The following as tests/bundle/test_onnx_data.py.
TEST(OnnxData, EveryValueIsMadeOnceAndBeforeItsUse) {
  const std::string ends = values({"s"}, {"o"});
  for (const auto& [graph, message] :
       {std::pair{ends + node("Add", {"s", "q"}, {"o"}) + node("Relu", {"o"}, {"q"}), "input 'q'"},
        std::pair{ends + node("Relu", {"q"}, {"o"}) + node("Relu", {"s"}, {"q"}), "input 'q'"},
        std::pair{ends + node("Add", {"s", "o"}, {"o"}), "a node before the one that makes its input 'o'"},
        std::pair{ends + node("Add", {"s", "nope"}, {"o"}), "input 'nope'"},
        std::pair{ends + node("Neg", {"s"}, {"o"}) + node("Relu", {"s"}, {"o"}), "two values named 'o'"},
        std::pair{ends + node("Split", {"s"}, {"o", "o"}), "two values named 'o'"},
        std::pair{values({"s"}, {"s"}) + node("Neg", {"s"}, {"s"}), "two values named 's'"},
        std::pair{values({"s", "s"}, {"o"}) + node("Neg", {"s"}, {"o"}), "two values named 's'"},
        std::pair{values({"s"}, {"o", "o"}) + node("Neg", {"s"}, {"o"}), "two values named 'o'"},
        std::pair{kInitializer + kInitializer, "two values named 'w'"}, std::pair{field(5, ""), "a value without name"},
        std::pair{ends + node("Neg", {"s"}, {"p"}), "the output 'o', which no node makes"}})
    EXPECT_NE(said(model(graph)).find(std::string(message) + ")"), std::string::npos) << said(model(graph));
}

TEST(OnnxData, InputsAndOutputsThatAreLeftOutAndDefaults) {
  for (const std::string& graph :
       {node("Resize", {"s", "", "w"}, {"o"}) + values({"s"}, {"o"}) + kInitializer,  // in any order
        node("Dropout", {"s"}, {"o", ""}) + node("Dropout", {"s"}, {"p", ""}) + values({"s"}, {"o", "p"}),
        values({"s", "w"}, {"o"}) + kInitializer + node("Add", {"s", "w"}, {"o"})})
    EXPECT_EQ(said(model(graph)), "");
}

TEST(OnnxData, ValuesInTheBodyOfALoop) {
  const auto in_loop = [](const std::string& body) {
    return said(model(values({"s"}, {"o"}) + node("Loop", {"", "", "s"}, {"o"}, field(5, field(6, body)))), true);
  };
  EXPECT_EQ(in_loop(values({"i"}, {"j"}) + node("Add", {"i", "s"}, {"j"})), "");  // s is of the graph around it
  for (const std::string& body :
       {values({"i"}, {"j"}) + node("Add", {"i", "o"}, {"j"}),  // o is the loop's own output
        values({"i"}, {"j"}) + node("Add", {"i", "j"}, {"j"}), values({"i"}, {"s"}) + node("Neg", {"i"}, {"k"}),
        values({"i"}, {"s"}) + node("Neg", {"i"}, {"s"}), values({"s"}, {"j"}) + node("Neg", {"s"}, {"j"})})
    EXPECT_NE(in_loop(body).find("not a plain ONNX graph"), std::string::npos) << in_loop(body);
}

TEST(OnnxData, TextsAreUtf8) {
  const std::string bad = "\xff\xfe";
  for (const std::string& data :
       {model("", field(2, bad)), model("", field(14, field(1, "key") + field(2, bad))), model(field(2, bad)),
        model(values({bad}, {})), model(values({}, {bad})), model(field(13, field(1, bad))),
        model(field(11, field(1, "s") + field(2, field(1, field(2, field(1, field(2, bad))))))),  // dim_param
        model(field(5, field(8, bad))), model(field(1, field(4, bad))), model(node("Neg", {}, {bad})),
        model(node("Neg", {}, {}, field(3, bad))), model(node("Neg", {}, {}, field(5, field(1, bad)))),
        model(field(1, field(4, "\xed\xa0\x80")))})  // a surrogate
    EXPECT_NE(said(data).find("a text that is not UTF-8"), std::string::npos) << said(data);
  // Bytes of attributes and tensors are no texts.
  EXPECT_EQ(said(model(node("Constant", {}, {"c"},
                            field(5, field(4, bad) + field(9, bad)) + field(5, field(5, field(9, bad)))))),
            "");
}

TEST(OnnxData, TheNumberOfFieldsHasALimit) {
  const auto with = [](int inputs) {
    std::string all = field(4, "Neg");
    for (int i = 0; i < inputs; ++i) all += std::string("\x0a\x00", 2);  // one that is left out
    return model(field(1, all));
  };
  EXPECT_EQ(said(with(250'000)), "");
  EXPECT_NE(said(with(270'000)).find("more than 262,144 fields"), std::string::npos);
}

}  // namespace
