#include "bundle/meaning.h"

#include <charconv>

#include "bundle/sha256.h"
#include "core/names.h"

namespace seggd::core {
namespace {

std::string json_text(std::string_view text) {
  std::string json = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') json += '\\';
    json += letter;
  }
  return json + '"';
}

std::string truth(std::optional<bool> value) { return !value ? "null" : *value ? "true" : "false"; }

std::string number(std::optional<double> value) { return value ? json_number(*value) : "null"; }

std::string classes_json(const std::vector<LabelClass>& classes) {
  std::vector<std::string> all;
  for (const LabelClass& one : classes) {
    const auto [red, green, blue] = one.color;
    all.push_back("{\"id\":" + std::to_string(one.id) + ",\"name\":" + json_text(one.name) + ",\"color\":[" +
                  std::to_string(red) + "," + std::to_string(green) + "," + std::to_string(blue) + "]}");
  }
  return "[" + joined(all, ",") + "]";
}

std::string schedule_json(const NoiseSchedule& s) {
  return "{\"train_steps\":" + std::to_string(s.train_steps) +
         ",\"beta_curve\":" + json_text(kBetaCurves.name(s.beta_curve)) +
         ",\"beta_start\":" + json_number(s.beta_start) + ",\"beta_end\":" + json_number(s.beta_end) +
         ",\"prediction\":" + json_text(kPredictions.name(s.prediction)) +
         ",\"spacing\":" + json_text(kSpacings.name(s.spacing)) +
         ",\"steps_offset\":" + std::to_string(s.steps_offset) + ",\"clip_x0\":" + number(s.clip_x0) +
         ",\"zero_terminal_snr\":" + truth(s.zero_terminal_snr) +
         ",\"final_alpha_bar_one\":" + truth(s.final_alpha_bar_one) + "}";
}

}  // namespace

std::string json_number(double number) {
  char text[32];
  const char* end = std::to_chars(text, text + sizeof text, number, std::chars_format::scientific).ptr;
  const std::string all(static_cast<const char*>(text), end);  // [-]d[.ddd]e[+-]xx
  const size_t e = all.find('e');
  const int exponent = std::stoi(all.substr(e + 1));
  const bool negative = all[0] == '-';
  std::string digits = all.substr(negative ? 1 : 0, e - (negative ? 1 : 0));
  if (digits.size() > 1) digits.erase(1, 1);  // the point
  const int count = static_cast<int>(digits.size());
  std::string json;
  if (exponent < -5 || exponent > 15) {
    json = digits.substr(0, 1) + (count > 1 ? "." + digits.substr(1) : "") + "e" + std::to_string(exponent);
  } else if (exponent < 0) {
    json = "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  } else if (count <= exponent + 1) {
    json = digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  } else {
    json = digits.substr(0, static_cast<size_t>(exponent + 1)) + "." + digits.substr(static_cast<size_t>(exponent + 1));
  }
  return (negative ? "-" : "") + json;
}

std::string meaning_json(const Manifest& m) {
  const auto& range = m.intensity_range;
  return "{\"image\":{\"channels\":" + std::to_string(m.image.channels) +
         ",\"height\":" + std::to_string(m.image.height) + ",\"width\":" + std::to_string(m.image.width) +
         "},\"classes\":" + classes_json(m.classes) +
         ",\"mask\":{\"encoding\":" + json_text(kEncodings.name(m.mask.encoding)) +
         ",\"trained_with_ablation\":" + truth(m.mask.trained_with_ablation) +
         ",\"trained_with_empty_mask\":" + truth(m.mask.trained_with_empty_mask) +
         "},\"schedule\":" + schedule_json(m.schedule) +
         ",\"defaults\":{\"sampler\":" + json_text(kSamplers.name(m.defaults.sampler)) +
         ",\"steps\":" + std::to_string(m.defaults.steps) + "},\"check_steps\":" + std::to_string(m.check_steps) +
         ",\"intensity_range\":" +
         (range ? "[" + json_number(range->first) + "," + json_number(range->second) + "]" : "null") + "}";
}

std::string meaning_sha256(const Manifest& manifest) { return sha256(meaning_json(manifest)); }

}  // namespace seggd::core
