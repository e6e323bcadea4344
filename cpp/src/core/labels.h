// Label maps: classes, their encoding as mask channels, and leaving classes out: seggd_rt/diffusion/labels.py.
//
// Encoding is a table, (labels, mask channels) float32: a pixel of label k becomes row k. Leaving a class out zeroes
// its row, which is what random mask ablation does in training (arXiv 2402.05210, section 2.2).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace seggd::core {

enum class MaskEncoding { kLabelOver255, kOneHot };

struct LabelClass {
  int id = 0;
  std::string name;
  std::array<int, 3> color{};

  // Throws Invalid where a field is outside its range.
  void check() const;
};

// Throws Invalid unless ids are 0, 1, 2, ... in order, names differ, and there is a foreground class.
// Names differ by more than the case of ASCII letters; Python folds the case of all letters.
void check_classes(const std::vector<LabelClass>& classes);

int mask_channels(MaskEncoding encoding, size_t classes);

struct EncodeTable {
  int labels, mask_channels;
  std::vector<float> values;  // (labels, mask_channels)

  // Writes a label map, (pixels), as (mask_channels, pixels).
  void encode(const uint8_t* label_map, size_t pixels, float* mask) const;
};

// The encoding of every label; rows of the classes that are not kept, and of the background, are 0.
EncodeTable encode_table(MaskEncoding encoding, size_t classes, const std::vector<int>& kept);

// Ids of all foreground classes.
std::vector<int> foreground(const std::vector<LabelClass>& classes);

// Ids of the foreground classes that stay, rising. Of keep and drop one may name classes; null is not given.
// SEGGD_OPTION where both are given, a name is unknown or the background's, or no class would stay.
std::vector<int> select_classes(const std::vector<LabelClass>& classes, const std::vector<std::string>* keep,
                                const std::vector<std::string>* drop);

// SEGGD_LABEL_MAP where a label is outside the classes.
void check_label_map(const uint8_t* label_map, size_t pixels, const std::vector<LabelClass>& classes);

// Resizes a label map, (height, width), to (new_height, new_width) by nearest neighbour, sampling at pixel centres.
void resize_nearest(const uint8_t* label_map, int height, int width, int new_height, int new_width, uint8_t* out);

// Whether resizing changes the aspect ratio by more than what rounding a side to whole pixels may cost.
bool changes_aspect(int height, int width, int new_height, int new_width);

// Whether a stack of label maps, (count, pixels), is most likely one map with an axis of classes.
bool looks_one_hot(const uint8_t* label_maps, size_t count, size_t pixels, size_t classes);

}  // namespace seggd::core
