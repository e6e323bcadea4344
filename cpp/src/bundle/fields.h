// A JSON object read field by field: wrong types, missing keys and unknown keys are refused, by where they stand.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "bundle/json.h"
#include "core/error.h"
#include "core/names.h"

namespace seggd::core {

class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail(where_, "an object", object);
  }

  std::string at(const std::string& key) const { return where_ + "." + key; }

  // The value of a key, or null where it is absent; a key that is asked for is known.
  const Json* find(const std::string& key) {
    known_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  const Json& require(const std::string& key) {
    const Json* value = find(key);
    if (!value) throw Invalid(where_ + " lacks '" + key + "'");
    return *value;
  }

  // The value of a key, null where it is absent or null.
  const Json* given(const std::string& key) {
    const Json* value = find(key);
    return value && value->is_null() ? nullptr : value;
  }

  std::string text(const std::string& key) { return text_of(require(key), at(key)); }
  bool truth(const std::string& key) { return truth_of(require(key), at(key)); }
  double number(const std::string& key) { return number_of(require(key), at(key)); }
  int whole(const std::string& key) { return whole_of(require(key), at(key)); }

  // Checks that the value of a key is a whole number, of any size that read_json takes.
  void check_whole(const std::string& key) {
    const Json& value = require(key);
    if (!value.is_number_integer()) fail(at(key), "a whole number", value);
  }

  std::optional<bool> truth_or_null(const std::string& key) {
    const Json& value = require(key);
    return value.is_null() ? std::nullopt : std::optional(truth_of(value, at(key)));
  }

  template <class Kind, size_t N>
  Kind choice(const std::string& key, const Names<Kind, N>& names) {
    const std::string name = text(key);
    if (const std::optional<Kind> found = names.find(name)) return *found;
    throw Invalid("there is no " + std::string(names.what) + " '" + name + "' (" + at(key) + "): there are " +
                  joined(names.list()));
  }

  // An object of any form, or null. It must not be nested more than kMaxNesting levels deep.
  void reserved(const std::string& key) {
    const Json* value = given(key);
    if (!value) return;
    if (!value->is_object()) fail(at(key), "an object", *value);
    check_nesting(*value);
  }

  // Refuses the keys that were not asked for.
  void finish() const {
    for (const auto& item : object_.items())
      if (!known_.count(item.key())) throw Invalid(where_ + " has an unknown key '" + item.key() + "'");
  }

  static std::string text_of(const Json& value, const std::string& where) {
    if (!value.is_string()) fail(where, "a string", value);
    return value.get<std::string>();
  }

  static bool truth_of(const Json& value, const std::string& where) {
    if (!value.is_boolean()) fail(where, "true or false", value);
    return value.get<bool>();
  }

  static double number_of(const Json& value, const std::string& where) {
    if (!value.is_number()) fail(where, "a number", value);
    return value.get<double>();
  }

  // Every whole number that decides something, but a file's size, lies far inside 32 bits; what does not is out of its
  // range.
  static int whole_of(const Json& value, const std::string& where) {
    if (!value.is_number_integer()) fail(where, "a whole number", value);
    const bool large = value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX;
    if (large || (!value.is_number_unsigned() && value.get<int64_t>() < INT32_MIN))
      throw Invalid(where + " is " + value.dump() + "; it must lie in 32 bits");
    return value.get<int>();
  }

  static const Json& list_of(const Json& value, const std::string& where) {
    if (!value.is_array()) fail(where, "a list", value);
    return value;
  }

 private:
  [[noreturn]] static void fail(const std::string& where, const std::string& wanted, const Json& value) {
    throw Invalid(where + " must be " + wanted + ", not " + value.type_name());
  }

  const Json& object_;
  std::string where_;
  std::set<std::string> known_;
};

}  // namespace seggd::core
