#include "bundle/safetensors.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>

#include "bundle/fields.h"

namespace seggd::core {
namespace {

constexpr uint64_t kMaxHeader = uint64_t{100} << 20;

size_t size_of(const std::string& dtype) {
  const std::map<std::string, size_t> sizes{{"F32", 4}, {"I64", 8}, {"U8", 1}};
  const auto found = sizes.find(dtype);
  if (found == sizes.end()) throw Invalid("dtype " + dtype + " is not read");
  return found->second;
}

uint64_t place(const Json& json) {
  if (!json.is_number_unsigned()) throw Invalid("places and shapes must be whole numbers");
  return json.get<uint64_t>();
}

struct Place {
  uint64_t begin, end;
};

// Refuses bytes that no tensor has, and bytes that two tensors have: what the safetensors package refuses too.
void require_gapless(std::vector<Place> places, uint64_t size) {
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  uint64_t end = 0;
  for (const Place& place : places) {
    if (place.begin != end) throw Invalid("its tensors overlap, or leave bytes between them");
    end = place.end;
  }
  if (end != size) throw Invalid("it has bytes after its last tensor");
}

Tensor read_tensor(const Json& json, const std::string& name, const std::string& data, std::vector<Place>& places) {
  Fields fields(json, name);
  Tensor tensor{fields.text("dtype"), {}, {}};
  uint64_t size = size_of(tensor.dtype);
  for (const Json& axis : Fields::list_of(fields.require("shape"), name)) {
    const uint64_t length = place(axis);
    if (length != 0 && size > data.size() / length) throw Invalid(name + " is larger than the file");
    size *= length;
    tensor.shape.push_back(static_cast<int64_t>(length));
  }
  const Json& offsets = Fields::list_of(fields.require("data_offsets"), name);
  if (offsets.size() != 2) throw Invalid(name + " must have two places");
  const uint64_t begin = place(offsets[0]), end = place(offsets[1]);
  if (begin > end || end > data.size() || end - begin != size)
    throw Invalid(name + " does not lie where the header says");
  places.push_back({begin, end});
  tensor.bytes = data.substr(static_cast<size_t>(begin), static_cast<size_t>(size));
  return tensor;
}

}  // namespace

template <class Number>
std::vector<Number> Tensor::as() const {
  if (size_of(dtype) != sizeof(Number)) throw Invalid(dtype + " is of another size");
  std::vector<Number> numbers(bytes.size() / sizeof(Number));
  if (!numbers.empty()) std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

template std::vector<float> Tensor::as<float>() const;
template std::vector<int64_t> Tensor::as<int64_t>() const;
template std::vector<uint8_t> Tensor::as<uint8_t>() const;

Safetensors read_safetensors(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return parse_safetensors({std::istreambuf_iterator<char>(file), {}});
}

Safetensors parse_safetensors(const std::string& all) {
  uint64_t length = 0;
  if (all.size() < sizeof length) throw Invalid("it has no header");
  for (size_t i = 0; i < sizeof length; ++i)
    length |= static_cast<uint64_t>(static_cast<unsigned char>(all[i])) << (8 * i);
  if (length > kMaxHeader || length > all.size() - sizeof length) throw Invalid("its header is not whole");
  const std::string data = all.substr(sizeof length + static_cast<size_t>(length));
  Safetensors found;
  std::vector<Place> places;
  const Json header = read_json({all.data() + sizeof length, static_cast<size_t>(length)});
  if (!header.is_object()) throw Invalid("its header is no object");
  for (const auto& item : header.items()) {
    if (item.key() != "__metadata__") {
      found.tensors[item.key()] = read_tensor(item.value(), item.key(), data, places);
      continue;
    }
    if (!item.value().is_object()) throw Invalid("its metadata is no object");
    for (const auto& entry : item.value().items())
      found.metadata[entry.key()] = Fields::text_of(entry.value(), "its metadata");
  }
  require_gapless(std::move(places), data.size());
  return found;
}

}  // namespace seggd::core
