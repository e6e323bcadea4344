#include "onnx_data.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>

#include "error.h"
#include "printable.h"

namespace seggd::core {
namespace {

constexpr int kMaxDepth = 32;
constexpr uint64_t kMaxTag = 0xFFFFFFFF;
constexpr uint64_t kExternal = 1;  // TensorProto.DataLocation
constexpr size_t kShown = 40;      // bytes of a name in a message

struct Broken : std::exception {};

// A message of onnx.proto3 that is read; kNone is content that is left to engines.
enum class Message { kModel, kGraph, kNode, kAttribute, kTensor, kOpset, kEntry, kNone };

// How a field lies in a message; a packed one holds many numbers, which may also stand one by one.
enum class Wire { kUnknown, kVarint, kFixed32, kBytes, kVarints, kFixed32s, kFixed64s };

struct Known {
  Wire wire = Wire::kUnknown;
  bool many = false;
  Message message = Message::kNone;
};

constexpr Known one(Wire wire) { return {wire, false, Message::kNone}; }
constexpr Known many(Wire wire) { return {wire, true, Message::kNone}; }
constexpr Known one(Message message) { return {Wire::kBytes, false, message}; }
constexpr Known many(Message message) { return {Wire::kBytes, true, message}; }

// What plain graphs have. Functions, training, sparse tensors, lists of graphs and parts for devices are left out.
Known known(Message message, uint64_t field) {
  switch (message) {
    case Message::kModel:
      if (field == 1 || field == 5) return one(Wire::kVarint);
      if ((field >= 2 && field <= 4) || field == 6) return one(Wire::kBytes);
      if (field == 7) return one(Message::kGraph);
      if (field == 8) return many(Message::kOpset);
      return field == 14 ? many(Message::kEntry) : Known{};
    case Message::kOpset:
      return field == 1 ? one(Wire::kBytes) : field == 2 ? one(Wire::kVarint) : Known{};
    case Message::kGraph:
      if (field == 1) return many(Message::kNode);
      if (field == 2 || field == 10) return one(Wire::kBytes);
      if (field == 5) return many(Message::kTensor);
      if (field >= 11 && field <= 13) return many(Wire::kBytes);  // inputs, outputs and types of values
      return field == 16 ? many(Message::kEntry) : Known{};
    case Message::kNode:
      if (field == 1 || field == 2) return many(Wire::kBytes);
      if (field == 5) return many(Message::kAttribute);
      if (field == 9) return many(Message::kEntry);
      return field == 3 || field == 4 || field == 6 || field == 7 ? one(Wire::kBytes) : Known{};
    case Message::kAttribute:
      if (field == 1 || field == 4 || field == 13) return one(Wire::kBytes);
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
      if (field == 8 || field == 9 || field == 12) return one(Wire::kBytes);
      if (field == 10) return many(Wire::kFixed64s);
      return field == 13 || field == 16 ? many(Message::kEntry) : Known{};
    case Message::kEntry:
      return field == 1 || field == 2 ? one(Wire::kBytes) : Known{};
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
    read(Message::kModel, 0, data_.size(), 0);
    return std::move(external_);
  }

 private:
  // A field's content; the last, where a message has several of its number.
  struct Content {
    std::string_view bytes;
    uint64_t value = 0;
  };
  using Found = std::map<uint64_t, Content>;

  Found read(Message message, uint64_t start, uint64_t end, int depth) {
    if (depth > kMaxDepth) refuse("messages nested more than " + std::to_string(kMaxDepth) + " levels deep");
    Found found;
    std::map<std::string, std::string> stated;
    for (uint64_t at = start; at < end;) {
      const uint64_t tag = varint(at), number = tag >> 3, kind = tag & 7;
      const Known field = known(message, number);
      // Of a tag beyond 32 bits, protobuf's own reader would drop the upper ones, and see another field.
      if (tag > kMaxTag || field.wire == Wire::kUnknown || (found.count(number) && !field.many))
        refuse("field " + std::to_string(number) + " of " + name_of(message) +
               (found.count(number) && !field.many ? " twice" : ""));
      if (!fits(field.wire, kind)) throw Broken();
      uint64_t first = at, value = 0, size = kind == 1 ? 8 : 4;
      if (kind == 0) {
        value = varint(at), size = at - first;
      } else if (kind == 2) {
        size = varint(at), first = at;
      }
      if (first > end || size > end - first) throw Broken();
      at = first + size;
      found[number] = {std::string_view(data_).substr(first, size), value};
      if (field.message == Message::kNone) continue;
      if (field.message == Message::kGraph && message != Message::kModel && !control_flow_) refuse("control flow");
      const Found inner = read(field.message, first, at, depth + 1);
      if (message == Message::kTensor && number == 13 &&
          !stated.emplace(std::string(bytes(inner, 1)), std::string(bytes(inner, 2))).second)
        throw Broken();
    }
    check(message, found);
    if (message == Message::kTensor && (!stated.empty() || (found.count(14) && found.at(14).value == kExternal)))
      note_external(stated);
    return found;
  }

  // Refuses a message that lacks what it must have, or has operators that are not ONNX's own.
  void check(Message message, const Found& found) const {
    if (message == Message::kModel && !(found.count(1) && found.count(7) && found.count(8))) throw Broken();
    if (message == Message::kGraph && !found.count(1)) throw Broken();
    if (message == Message::kOpset && !is_default(bytes(found, 1))) refuse("operators of " + shown(bytes(found, 1)));
    if (message != Message::kNode) return;
    if (!found.count(4)) throw Broken();
    if (!is_default(bytes(found, 7))) refuse("operators of " + shown(bytes(found, 7)));
    if (is_control_flow(bytes(found, 4)) && !control_flow_) refuse("control flow, " + shown(bytes(found, 4)));
  }

  void note_external(const std::map<std::string, std::string>& stated) {
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

  uint64_t varint(uint64_t& at) const {
    uint64_t value = 0;
    for (int shift = 0; shift <= 63; shift += 7) {
      if (at >= data_.size()) throw Broken();
      const auto byte = static_cast<unsigned char>(data_[static_cast<size_t>(at++)]);
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
