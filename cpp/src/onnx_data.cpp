#include "onnx_data.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "error.h"

namespace seggd::core {
namespace {

constexpr int kMaxDepth = 64;
constexpr uint64_t kMaxTag = 0xFFFFFFFF;

struct Broken : std::exception {};

// A file's bytes by their place, without holding them all: weights are skipped.
class Bytes {
 public:
  explicit Bytes(const std::filesystem::path& path)
      : file_(path, std::ios::binary), size_(std::filesystem::file_size(path)), block_(size_t{1} << 16) {}

  uint64_t size() const { return size_; }

  unsigned char at(uint64_t place) {
    if (place >= size_) throw Broken();
    if (place < first_ || place >= first_ + count_) fetch(place);
    return static_cast<unsigned char>(block_[static_cast<size_t>(place - first_)]);
  }

  std::string text(uint64_t start, uint64_t end) {
    std::string text;
    for (uint64_t place = start; place < end; ++place) text += static_cast<char>(at(place));
    return text;
  }

 private:
  void fetch(uint64_t place) {
    file_.clear();
    file_.seekg(static_cast<std::streamoff>(place));
    file_.read(block_.data(), static_cast<std::streamsize>(block_.size()));
    first_ = place, count_ = static_cast<uint64_t>(file_.gcount());
    if (count_ == 0) throw Broken();
  }

  std::ifstream file_;
  uint64_t size_, first_ = 0, count_ = 0;
  std::vector<char> block_;
};

// Protobuf's wire format, and of onnx.proto3 the few fields on the way to a tensor.
class Walk {
 public:
  explicit Walk(Bytes& bytes) : bytes_(bytes) {}

  std::set<std::string> locations() {
    visit(0, bytes_.size(), Message::kModel, 0);
    return std::move(found_);
  }

 private:
  enum class Message { kModel, kGraph, kNode, kAttribute, kTensor, kSparse, kFunction, kTraining, kEntry, kNone };

  static Message nested(Message message, uint64_t field) {
    switch (message) {
      case Message::kModel:
        return field == 7    ? Message::kGraph
               : field == 20 ? Message::kTraining
               : field == 25 ? Message::kFunction
                             : Message::kNone;
      case Message::kTraining:
        return field == 1 || field == 2 ? Message::kGraph : Message::kNone;
      case Message::kFunction:
        return field == 7 ? Message::kNode : field == 11 ? Message::kAttribute : Message::kNone;
      case Message::kGraph:
        return field == 1    ? Message::kNode
               : field == 5  ? Message::kTensor
               : field == 15 ? Message::kSparse
                             : Message::kNone;
      case Message::kNode:
        return field == 5 ? Message::kAttribute : Message::kNone;
      case Message::kAttribute:
        return field == 5 || field == 10    ? Message::kTensor
               : field == 6 || field == 11  ? Message::kGraph
               : field == 22 || field == 23 ? Message::kSparse
                                            : Message::kNone;
      case Message::kSparse:
        return field == 1 || field == 2 ? Message::kTensor : Message::kNone;
      case Message::kTensor:
        return field == 13 ? Message::kEntry : Message::kNone;
      case Message::kEntry:
      case Message::kNone:
        break;
    }
    return Message::kNone;
  }

  void visit(uint64_t start, uint64_t end, Message message, int depth) {
    if (depth > kMaxDepth) throw Broken();
    std::string key, value;  // of an entry, which has them in either order
    uint64_t at = start;
    while (at < end) {
      const uint64_t tag = varint(at);
      // Beyond 32 bits protobuf's own reader would drop the upper ones, and see a field that is skipped here.
      if (tag > kMaxTag) throw Broken();
      const uint64_t field = tag >> 3;
      switch (tag & 7) {
        case 0:
          varint(at);
          break;
        case 1:
          at += 8;
          break;
        case 5:
          at += 4;
          break;
        case 2: {
          const uint64_t size = varint(at);
          if (at > end || size > end - at) throw Broken();
          if (message == Message::kEntry) {
            if (field == 1) key = bytes_.text(at, at + std::min(size, kLongest));
            if (field == 2) value = bytes_.text(at, at + std::min(size, kLongest));
          } else if (const Message inner = nested(message, field); inner != Message::kNone) {
            visit(at, at + size, inner, depth + 1);
          }
          at += size;
          break;
        }
        default:
          throw Broken();
      }
    }
    if (at != end) throw Broken();
    if (message == Message::kEntry && key == "location") found_.insert(value);
  }

  uint64_t varint(uint64_t& at) {
    uint64_t value = 0;
    for (int shift = 0; shift <= 63; shift += 7) {
      const unsigned char byte = bytes_.at(at++);
      if (shift == 63 && byte > 1) throw Broken();  // the number has more than 64 bits
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    throw Broken();
  }

  static constexpr uint64_t kLongest = 4096;  // of a key or a value: no file name of a bundle comes near it
  Bytes& bytes_;
  std::set<std::string> found_;
};

}  // namespace

std::set<std::string> external_locations(const std::filesystem::path& path) {
  Bytes bytes(path);
  const std::string name = path.filename().u8string();
  if (bytes.size() == 0) throw Error(SEGGD_INTEGRITY, name + " is empty: export the bundle again");
  try {
    return Walk(bytes).locations();
  } catch (const Broken&) {
    throw Error(SEGGD_INTEGRITY, name + " is not a whole ONNX file: export the bundle again");
  }
}

}  // namespace seggd::core
