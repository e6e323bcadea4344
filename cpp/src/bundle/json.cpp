#include "bundle/json.h"

#include <set>
#include <string>
#include <vector>

#include "core/error.h"

namespace seggd::core {
namespace {

// A manifest's training notes lie two objects deep: in the provenance, in the manifest.
constexpr size_t kMaxDepth = 2 + kMaxNesting;

Invalid too_deep() { return Invalid("values are nested more than " + std::to_string(kMaxNesting) + " levels deep"); }

// Checks a document and builds nothing. nlohmann's own callback can check too, but it takes a time that grows with the
// square of the number of values, and it does not see a key that comes twice.
class Checker : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return count(); }
  bool boolean(bool) override { return count(); }
  bool number_integer(number_integer_t) override { return count(); }
  bool number_unsigned(number_unsigned_t) override { return count(); }

  // nlohmann takes a whole number of more than 64 bits for another kind, which would round it.
  bool number_float(number_float_t, const string_t& text) override {
    constexpr size_t kShown = 40;
    if (text.find_first_of(".eE") == std::string::npos)
      throw Invalid("a whole number has more than 64 bits (" + text.substr(0, kShown) + ")");
    return count();
  }

  bool string(string_t&) override { return count(); }
  bool binary(binary_t&) override { return count(); }
  bool start_object(size_t) override { return open(); }
  bool start_array(size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) throw Invalid("an object has the key '" + name + "' twice");
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    throw Invalid(error.what());
  }

 private:
  bool count() {
    if (++values_ > kMaxJsonValues) throw Invalid("it has more than " + std::to_string(kMaxJsonValues) + " values");
    return true;
  }

  bool open() {
    if (keys_.size() == kMaxDepth) throw too_deep();
    keys_.emplace_back();
    return count();
  }

  bool close() {
    keys_.pop_back();
    return true;
  }

  int values_ = 0;
  std::vector<std::set<std::string>> keys_;  // of each object or list that is open
};

}  // namespace

Json read_json(std::string_view data) {
  // nlohmann takes a zero byte for the end, and skips a byte order mark: JSON has neither.
  if (data.find('\0') != std::string_view::npos) throw Invalid("it has a zero byte");
  if (data.substr(0, 3) == "\xef\xbb\xbf") throw Invalid("it begins with a byte order mark");
  Checker checker;
  Json::sax_parse(data.begin(), data.end(), &checker);
  return Json::parse(data.begin(), data.end());
}

void check_nesting(const Json& value, int levels) {
  if (!value.is_structured()) return;
  if (levels == 0) throw too_deep();
  for (const Json& inner : value) check_nesting(inner, levels - 1);
}

}  // namespace seggd::core
