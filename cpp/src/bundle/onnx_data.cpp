#include "bundle/onnx_data.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/printable.h"

namespace seggd::core {
namespace {

constexpr int kMaxDepth = 32;
constexpr int kMaxFields = 1 << 18;  // in a whole file; seggd_rt/bundle/onnx_data.py says how many there are
constexpr uint64_t kMaxTag = 0xFFFFFFFF;
constexpr uint64_t kMaxOpset = 1 << 10;  // seggd_rt/bundle/onnx_data.py says why
constexpr uint64_t kExternal = 1;        // TensorProto.DataLocation
constexpr size_t kMaxDigits = 19;        // of a count of bytes in external data
constexpr size_t kShown = 40;            // bytes of a name in a message

struct Broken : std::exception {};

// A message of onnx.proto3 that is read; kNone is content that is left to engines.
enum class Message {
  kModel,
  kGraph,
  kNode,
  kAttribute,
  kTensor,
  kOpset,
  kEntry,
  kValue,
  kType,
  kTensorType,
  kShape,
  kDimension,
  kNone
};

// How a field lies in a message; a packed one holds many numbers, which may also stand one by one.
enum class Wire { kUnknown, kVarint, kFixed32, kBytes, kText, kVarints, kFixed32s, kFixed64s };

struct Known {
  Wire wire = Wire::kUnknown;
  bool many = false;
  Message message = Message::kNone;
};

constexpr Known one(Wire wire) { return {wire, false, Message::kNone}; }
constexpr Known many(Wire wire) { return {wire, true, Message::kNone}; }
constexpr Known one(Message message) { return {Wire::kBytes, false, message}; }
constexpr Known many(Message message) { return {Wire::kBytes, true, message}; }

// What plain graphs have. Functions, training, sparse tensors, lists of graphs, parts for devices and values other than
// tensors are left out.
Known known(Message message, uint64_t field) {
  switch (message) {
    case Message::kModel:
      if (field == 1 || field == 5) return one(Wire::kVarint);
      if ((field >= 2 && field <= 4) || field == 6) return one(Wire::kText);
      if (field == 7) return one(Message::kGraph);
      if (field == 8) return many(Message::kOpset);
      return field == 14 ? many(Message::kEntry) : Known{};
    case Message::kOpset:
      return field == 1 ? one(Wire::kText) : field == 2 ? one(Wire::kVarint) : Known{};
    case Message::kGraph:
      if (field == 1) return many(Message::kNode);
      if (field == 2 || field == 10) return one(Wire::kText);
      if (field == 5) return many(Message::kTensor);
      if (field >= 11 && field <= 13) return many(Message::kValue);  // inputs, outputs and types of values
      return field == 16 ? many(Message::kEntry) : Known{};
    case Message::kNode:
      if (field == 1 || field == 2) return many(Wire::kText);
      if (field == 5) return many(Message::kAttribute);
      if (field == 9) return many(Message::kEntry);
      return field == 3 || field == 4 || field == 6 || field == 7 ? one(Wire::kText) : Known{};
    case Message::kAttribute:
      if (field == 1 || field == 13) return one(Wire::kText);
      if (field == 4) return one(Wire::kBytes);
      if (field == 2) return one(Wire::kFixed32);
      if (field == 3 || field == 20) return one(Wire::kVarint);
      if (field == 5) return one(Message::kTensor);
      if (field == 6) return one(Message::kGraph);
      if (field == 7) return many(Wire::kFixed32s);
      if (field == 8) return many(Wire::kVarints);
      if (field == 9) return many(Wire::kBytes);
      return field == 10 ? many(Message::kTensor) : Known{};
    case Message::kTensor:
      if (field == 1 || field == 5 || field == 7 || field == 11) return many(Wire::kVarints);
      if (field == 2 || field == 14) return one(Wire::kVarint);
      if (field == 4) return many(Wire::kFixed32s);
      if (field == 6) return many(Wire::kBytes);
      if (field == 8 || field == 12) return one(Wire::kText);
      if (field == 9) return one(Wire::kBytes);
      if (field == 10) return many(Wire::kFixed64s);
      return field == 13 || field == 16 ? many(Message::kEntry) : Known{};
    case Message::kEntry:
      return field == 1 || field == 2 ? one(Wire::kText) : Known{};
    case Message::kValue:
      if (field == 1 || field == 3) return one(Wire::kText);
      return field == 2 ? one(Message::kType) : field == 4 ? many(Message::kEntry) : Known{};
    case Message::kType:
      return field == 1 ? one(Message::kTensorType) : field == 6 ? one(Wire::kText) : Known{};
    case Message::kTensorType:
      return field == 1 ? one(Wire::kVarint) : field == 2 ? one(Message::kShape) : Known{};
    case Message::kShape:
      return field == 1 ? many(Message::kDimension) : Known{};
    case Message::kDimension:
      return field == 1 ? one(Wire::kVarint) : field == 2 || field == 3 ? one(Wire::kText) : Known{};
    case Message::kNone:
      break;
  }
  return {};
}

const char* name_of(Message message) {
  switch (message) {
    case Message::kModel:
      return "ModelProto";
    case Message::kGraph:
      return "GraphProto";
    case Message::kNode:
      return "NodeProto";
    case Message::kAttribute:
      return "AttributeProto";
    case Message::kTensor:
      return "TensorProto";
    case Message::kOpset:
      return "OperatorSetIdProto";
    case Message::kValue:
      return "ValueInfoProto";
    case Message::kType:
      return "TypeProto";
    case Message::kTensorType:
      return "TypeProto.Tensor";
    case Message::kShape:
      return "TensorShapeProto";
    case Message::kDimension:
      return "TensorShapeProto.Dimension";
    case Message::kEntry:
    case Message::kNone:
      break;
  }
  return "StringStringEntryProto";
}

bool fits(Wire wire, uint64_t kind) {
  switch (wire) {
    case Wire::kVarint:
      return kind == 0;
    case Wire::kFixed32:
      return kind == 5;
    case Wire::kBytes:
    case Wire::kText:
      return kind == 2;
    case Wire::kVarints:
      return kind == 0 || kind == 2;
    case Wire::kFixed32s:
      return kind == 5 || kind == 2;
    case Wire::kFixed64s:
      return kind == 1 || kind == 2;
    case Wire::kUnknown:
      break;
  }
  return false;
}

bool is_default(std::string_view domain) { return domain.empty() || domain == "ai.onnx"; }

bool is_control_flow(std::string_view type) {
  return type == "If" || type == "Loop" || type == "Scan" || type == "SequenceMap";
}

uint64_t whole(const std::string& text) {
  if (text.size() > kMaxDigits) throw Broken();
  uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) throw Broken();
  return value;
}

class Reader {
 public:
  Reader(const std::string& data, const std::string& name, bool control_flow)
      : data_(data), name_(name), control_flow_(control_flow) {}

  std::map<std::string, uint64_t> external() {
    const Found model = read(Message::kModel, data_, 0);
    check_values(bytes(model, 7), {});
    return std::move(external_);
  }

 private:
  struct Content {
    std::string_view bytes;
    uint64_t value = 0;
  };
  using Found = std::map<uint64_t, Content>;  // of each number the last field
  using Names = std::set<std::string_view>;
  using Scopes = std::vector<const Names*>;

  // Calls `use` with the number, the kind and the content of each field of a message.
  template <class Use>
  void each(Message message, std::string_view rest, Use use) const {
    while (!rest.empty()) {
      const uint64_t tag = varint(rest), number = tag >> 3, kind = tag & 7;
      const Known field = known(message, number);
      // Of a tag beyond 32 bits, protobuf's own reader would drop the upper ones, and see another field.
      if (tag > kMaxTag || field.wire == Wire::kUnknown)
        refuse("field " + std::to_string(number) + " of " + name_of(message));
      if (!fits(field.wire, kind)) throw Broken();
      Content content;
      if (kind == 0) {
        content.value = varint(rest);
      } else {
        const uint64_t size = kind == 2 ? varint(rest) : kind == 1 ? 8 : 4;
        if (size > rest.size()) throw Broken();
        content.bytes = rest.substr(0, static_cast<size_t>(size));
        rest.remove_prefix(static_cast<size_t>(size));
      }
      use(number, field, content);
    }
  }

  // Reads a message and all in it.
  Found read(Message message, std::string_view whole, int depth) {
    if (depth > kMaxDepth) refuse("messages nested more than " + std::to_string(kMaxDepth) + " levels deep");
    Found found;
    std::map<std::string, std::string> stated;
    each(message, whole, [&](uint64_t number, const Known& field, const Content& content) {
      if (++fields_ > kMaxFields) refuse("more than 262,144 fields");
      if (!found.insert_or_assign(number, content).second && !field.many)
        refuse("field " + std::to_string(number) + " of " + name_of(message) + " twice");
      if (field.wire == Wire::kText && !is_utf8(content.bytes))
        refuse("a text that is not UTF-8, " + shown(content.bytes));
      if (field.message == Message::kNone) return;
      if (field.message == Message::kGraph && message != Message::kModel && !control_flow_) refuse("control flow");
      const Found inner = read(field.message, content.bytes, depth + 1);
      if (message == Message::kTensor && number == 13 &&
          !stated.emplace(std::string(bytes(inner, 1)), std::string(bytes(inner, 2))).second)
        throw Broken();
    });
    check(message, found);
    if (message == Message::kTensor) note_external(stated, found.count(14) ? found.at(14).value : 0);
    return found;
  }

  // Refuses a graph, which was read before, in which a value is made twice, or used before it is made, or an output is
  // not made. `outer` has the names of values of the graphs around it, known where it stands.
  void check_values(std::string_view graph, const Scopes& outer) const {
    std::map<uint64_t, std::vector<std::string_view>> parts;
    each(Message::kGraph, graph,
         [&](uint64_t number, const Known&, const Content& content) { parts[number].push_back(content.bytes); });
    const std::vector<std::string_view> initializers = names(Message::kTensor, 8, parts[5]);
    const std::vector<std::string_view> inputs = names(Message::kValue, 1, parts[11]);
    const std::vector<std::string_view> outputs = names(Message::kValue, 1, parts[12]);
    Names made;
    Scopes scopes = outer;
    scopes.push_back(&made);
    const auto is_known = [&scopes](std::string_view name) {
      return std::any_of(scopes.begin(), scopes.end(), [name](const Names* scope) { return scope->count(name) != 0; });
    };
    for (const auto* own : {&initializers, &inputs}) {  // an initializer may be the default of an input
      for (const std::string_view name : *own)
        if (std::any_of(outer.begin(), outer.end(), [name](const Names* scope) { return scope->count(name) != 0; }))
          refuse("two values named " + shown(name));
      made.insert(own->begin(), own->end());
    }
    for (const std::string_view node : parts[1]) {
      std::vector<std::string_view> used, new_values, graphs;
      each(Message::kNode, node, [&](uint64_t number, const Known&, const Content& content) {
        if (number == 1) used.push_back(content.bytes);
        if (number == 2) new_values.push_back(content.bytes);
        if (number == 5)
          each(Message::kAttribute, content.bytes, [&](uint64_t inner, const Known&, const Content& attribute) {
            if (inner == 6) graphs.push_back(attribute.bytes);
          });
      });
      for (const std::string_view name : used)  // an input that is left out has no name
        if (!name.empty() && !is_known(name)) refuse("a node before the one that makes its input " + shown(name));
      for (const std::string_view inner : graphs) check_values(inner, scopes);
      for (const std::string_view name : new_values) {
        if (!name.empty() && is_known(name)) refuse("two values named " + shown(name));
        if (!name.empty()) made.insert(name);
      }
    }
    for (const std::string_view name : outputs)
      if (!made.count(name)) refuse("the output " + shown(name) + ", which no node makes");
  }

  // The name of each of some messages, its field `number`: none is empty, and each is another.
  std::vector<std::string_view> names(Message message, uint64_t number,
                                      const std::vector<std::string_view>& messages) const {
    std::vector<std::string_view> all;
    Names seen;
    for (const std::string_view one : messages) {
      std::string_view name;
      each(message, one, [&](uint64_t field, const Known&, const Content& content) {
        if (field == number) name = content.bytes;
      });
      if (name.empty()) refuse("a value without name");
      if (!seen.insert(name).second) refuse("two values named " + shown(name));
      all.push_back(name);
    }
    return all;
  }

  // Refuses a message that lacks what it must have, or has operators that are not ONNX's own.
  void check(Message message, const Found& found) const {
    if (message == Message::kModel && !(found.count(1) && found.count(7) && found.count(8))) throw Broken();
    if (message == Message::kGraph && !found.count(1)) throw Broken();
    if (message == Message::kOpset) {
      if (!is_default(bytes(found, 1))) refuse("operators of the domain " + shown(bytes(found, 1)));
      const uint64_t version = found.count(2) ? found.at(2).value : 0;
      if (version > kMaxOpset) refuse("operator set " + std::to_string(version));
    }
    if (message != Message::kNode) return;
    if (!found.count(4)) throw Broken();
    if (!is_default(bytes(found, 7))) refuse("operators of the domain " + shown(bytes(found, 7)));
    if (is_control_flow(bytes(found, 4)) && !control_flow_) refuse("control flow, " + shown(bytes(found, 4)));
  }

  void note_external(const std::map<std::string, std::string>& stated, uint64_t place) {
    if (place > kExternal) throw Broken();  // protobuf's own reader would keep the lower 32 bits
    if (stated.empty() && place != kExternal) return;
    const auto number = [&stated](const char* key) {
      const auto found = stated.find(key);
      return found == stated.end() ? 0 : whole(found->second);
    };
    const auto location = stated.find("location");
    const uint64_t offset = number("offset"), length = number("length");
    if (location == stated.end() || offset + length < offset) throw Broken();
    uint64_t& needed = external_[location->second];
    needed = std::max(needed, offset + length);
  }

  // Takes a number from the front of some bytes.
  static uint64_t varint(std::string_view& rest) {
    uint64_t value = 0;
    for (int shift = 0; shift <= 63; shift += 7) {
      if (rest.empty()) throw Broken();
      const auto byte = static_cast<unsigned char>(rest.front());
      rest.remove_prefix(1);
      if (shift == 63 && byte > 1) throw Broken();  // the number has more than 64 bits
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    throw Broken();
  }

  static std::string_view bytes(const Found& found, uint64_t number) {
    const auto content = found.find(number);
    return content == found.end() ? std::string_view() : content->second.bytes;
  }

  static std::string shown(std::string_view text) { return "'" + printable(std::string(text.substr(0, kShown))) + "'"; }

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(SEGGD_INTEGRITY, name_ + " is not a plain ONNX graph (it has " + what + "): export it again");
  }

  const std::string& data_;
  const std::string& name_;
  bool control_flow_;
  int fields_ = 0;
  std::map<std::string, uint64_t> external_;
};

}  // namespace

std::map<std::string, uint64_t> external_data(const std::string& data, const std::string& name, bool control_flow) {
  if (data.empty()) throw Error(SEGGD_INTEGRITY, name + " is empty: export it again");
  try {
    return Reader(data, name, control_flow).external();
  } catch (const Broken&) {
    throw Error(SEGGD_INTEGRITY, name + " is not a whole ONNX file: export it again");
  }
}

}  // namespace seggd::core
