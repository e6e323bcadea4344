#include "core/labels.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/printable.h"
#include "core/wording.h"

namespace seggd::core {
namespace {

constexpr int kMaxLabel = 255;
constexpr double kAspectTolerance = 0.02;  // of the ratio's logarithm

std::string quoted(const std::vector<LabelClass>& classes) {
  std::vector<std::string> names;
  for (const LabelClass& one : classes)
    if (one.id != 0) names.push_back("'" + one.name + "'");
  return joined(names);
}

int find_class(const std::string& given, const std::vector<LabelClass>& classes) {
  const std::string name(stripped(given));
  for (const LabelClass& one : classes) {
    if (folded(one.name) != folded(name)) continue;
    if (one.id == 0)
      throw Error(SEGGD_OPTION,
                  "'" + one.name + "' is the background, which is always there: name foreground classes only");
    return one.id;
  }
  std::vector<std::string> names;
  for (const LabelClass& one : classes) names.push_back(one.name);
  const std::string near = nearest(name, names);
  throw Error(SEGGD_OPTION, "there is no class '" + name + "': " +
                                (near.empty() ? "there are " + quoted(classes) : "did you mean '" + near + "'?"));
}

}  // namespace

void LabelClass::check() const {
  if (id < 0 || id > kMaxLabel) throw Invalid("class id is " + std::to_string(id) + "; it must lie in [0, 255]");
  if (name.empty() || stripped(name) != name || name.find(',') != std::string::npos || !is_printable(name))
    throw Invalid("class name is '" + name + "'; it must be printable, without a comma or spaces around it");
  for (const int value : color)
    if (value < 0 || value > 255)
      throw Invalid("class color holds " + std::to_string(value) + "; each value must lie in [0, 255]");
}

void check_classes(const std::vector<LabelClass>& classes) {
  std::set<std::string> names;
  for (size_t i = 0; i < classes.size(); ++i) {
    if (classes[i].id != static_cast<int>(i)) throw Invalid("class ids must be 0 (background), 1, 2, ... in order");
    if (!names.insert(folded(classes[i].name)).second)
      throw Invalid("class names must differ by more than case, and '" + classes[i].name + "' is twice");
  }
  if (classes.size() < 2) throw Invalid("class ids must be 0 (background), 1, 2, ... in order");
}

int mask_channels(MaskEncoding encoding, size_t classes) {
  return encoding == MaskEncoding::kOneHot ? static_cast<int>(classes) - 1 : 1;
}

void EncodeTable::encode(const uint8_t* label_map, size_t pixels, float* mask) const {
  for (int channel = 0; channel < mask_channels; ++channel)
    for (size_t pixel = 0; pixel < pixels; ++pixel)
      *mask++ = values[static_cast<size_t>(label_map[pixel] * mask_channels + channel)];
}

EncodeTable encode_table(MaskEncoding encoding, size_t classes, const std::vector<int>& kept) {
  EncodeTable table{static_cast<int>(classes), mask_channels(encoding, classes), {}};
  table.values.resize(classes * static_cast<size_t>(table.mask_channels));
  for (const int id : kept) {
    float* row = table.values.data() + id * table.mask_channels;
    if (encoding == MaskEncoding::kOneHot) {
      row[id - 1] = 1.0f;
    } else {
      row[0] = static_cast<float>(id) / 255.0f;
    }
  }
  return table;
}

std::vector<int> foreground(const std::vector<LabelClass>& classes) {
  std::vector<int> ids;
  for (const LabelClass& one : classes)
    if (one.id != 0) ids.push_back(one.id);
  return ids;
}

std::vector<int> select_classes(const std::vector<LabelClass>& classes, const std::vector<std::string>* keep,
                                const std::vector<std::string>* drop) {
  if (keep && drop)
    throw Error(SEGGD_OPTION, "keep and drop exclude each other: give the classes to keep, or those to leave out");
  if (!keep && !drop) return foreground(classes);
  std::set<int> named;
  for (const std::string& name : keep ? *keep : *drop) named.insert(find_class(name, classes));
  std::vector<int> kept;
  for (const int id : foreground(classes))
    if ((named.count(id) != 0) == (keep != nullptr)) kept.push_back(id);
  if (kept.empty())
    throw Error(SEGGD_OPTION, std::string(keep ? "keep names no class" : "drop leaves no class") +
                                  ": at least one of " + quoted(classes) + " must stay");
  return kept;
}

void check_label_map(const uint8_t* label_map, size_t pixels, const std::vector<LabelClass>& classes) {
  const uint8_t most = *std::max_element(label_map, label_map + pixels);
  if (most < classes.size()) return;
  std::vector<std::string> known;
  for (const LabelClass& one : classes) known.push_back(std::to_string(one.id) + " " + one.name);
  throw Error(SEGGD_LABEL_MAP, "label " + std::to_string(most) + " is outside the classes " + joined(known));
}

void resize_nearest(const uint8_t* label_map, int height, int width, int new_height, int new_width, uint8_t* out) {
  const auto from = [](int place, int old_size, int new_size) {
    return static_cast<int>((int64_t{2} * place + 1) * old_size / (int64_t{2} * new_size));
  };
  for (int row = 0; row < new_height; ++row) {
    const uint8_t* line = label_map + static_cast<size_t>(from(row, height, new_height)) * static_cast<size_t>(width);
    for (int column = 0; column < new_width; ++column) *out++ = line[from(column, width, new_width)];
  }
}

bool changes_aspect(int height, int width, int new_height, int new_width) {
  return std::abs(std::log(static_cast<double>(height) * new_width / (static_cast<double>(width) * new_height))) >
         kAspectTolerance;
}

bool looks_one_hot(const uint8_t* label_maps, size_t count, size_t pixels, size_t classes) {
  if (count < 2 || (count != classes && count != classes - 1)) return false;
  size_t most = 0, least = count;
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    size_t covered = 0;
    for (size_t map = 0; map < count; ++map) {
      const uint8_t label = label_maps[map * pixels + pixel];
      if (label > 1) return false;
      covered += label;
    }
    most = std::max(most, covered), least = std::min(least, covered);
  }
  return most == 1 && (count != classes || least == 1);
}

}  // namespace seggd::core
