#include "api/request.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/names.h"
#include "noise.cuh"

namespace seggd::core {
namespace {

constexpr uint64_t kSeedMask = (uint64_t{1} << 53) - 1;  // derived seeds are exact in every JSON reader

void require(bool given, const std::string& name) {
  if (!given) throw Error(SEGGD_ARGUMENT, name + " is a null pointer");
}

std::vector<std::string> listed(const char* const* names, size_t count, const std::string& what) {
  require(names != nullptr, what);
  std::vector<std::string> all;
  for (size_t i = 0; i < count; ++i) {
    require(names[i] != nullptr, what + "[" + std::to_string(i) + "]");
    all.emplace_back(names[i]);
  }
  return all;
}

// How many arrays there are: one for all images, or one for each.
int array_count(int given, int images, const std::string& what) {
  const int count = given == 0 ? 1 : given;
  if (count != 1 && count != images)
    throw Error(SEGGD_OPTION, "there are " + std::to_string(given) + " " + what + " for " + std::to_string(images) +
                                  " images: give one for each image, or one for all");
  return count;
}

// Pointers to each image's part of an array, which may serve all.
template <class Number>
std::vector<const Number*> parts(const Number* array, int count, int images, size_t size) {
  std::vector<const Number*> all;
  for (int image = 0; image < images; ++image)
    all.push_back(array + (count == 1 ? 0 : static_cast<size_t>(image) * size));
  return all;
}

RowTable table_of(const Manifest& manifest, const seggd_request& request) {
  if (request.steps < 0)
    throw Error(SEGGD_OPTION, "steps is " + std::to_string(request.steps) + "; it must not be negative");
  const Sampler sampler = request.sampler ? kSamplers.require(request.sampler) : manifest.defaults.sampler;
  const Spacing spacing = request.spacing ? kSpacings.require(request.spacing) : manifest.schedule.spacing;
  int steps = request.steps;
  if (steps == 0) {
    const bool own = sampler == manifest.defaults.sampler;
    steps = own ? manifest.defaults.steps : usual_steps(sampler, manifest.schedule);
  }
  return sampler_rows(sampler, manifest.schedule, steps, request.eta, spacing);
}

void check_size_of_label_maps(const ImageSpec& image, const seggd_request& request, bool on_device) {
  require(request.label_maps != nullptr, "label_maps");
  if (request.height == image.height && request.width == image.width) return;
  const std::string sizes = "the label map is " + std::to_string(request.height) + "x" + std::to_string(request.width) +
                            "; this bundle draws " + std::to_string(image.height) + "x" + std::to_string(image.width);
  if (!request.resize_label_maps)
    throw Error(SEGGD_LABEL_MAP, sizes + ": resize it by nearest neighbour first, or ask for that");
  if (on_device) throw Error(SEGGD_LABEL_MAP, sizes + ": in the GPU's memory it must be that already");
  if (request.height < 1 || request.width < 1) throw Error(SEGGD_LABEL_MAP, sizes);
}

// Label maps of the bundle's size, resized into memory of the run where they have another.
const uint8_t* fitted(const ImageSpec& image, const seggd_request& request, size_t count, Run& run, const Warn& warn) {
  const int height = request.height, width = request.width;
  if (height == image.height && width == image.width) return request.label_maps;
  const std::string sizes = std::to_string(height) + "x" + std::to_string(width) + " to " +
                            std::to_string(image.height) + "x" + std::to_string(image.width);
  warn(SEGGD_WARNING_RESIZED, "the label map was resized by nearest neighbour, from " + sizes);
  if (changes_aspect(height, width, image.height, image.width))
    warn(SEGGD_WARNING_ASPECT_RATIO, sizes + " changes the aspect ratio: crop or pad first");
  auto resized = std::make_shared<std::vector<uint8_t>>(count * image.pixels());
  const size_t pixels = static_cast<size_t>(height) * static_cast<size_t>(width);
  for (size_t map = 0; map < count; ++map)
    resize_nearest(request.label_maps + map * pixels, height, width, image.height, image.width,
                   resized->data() + map * image.pixels());
  run.resized = resized;
  return resized->data();
}

// Points the run to its label maps, and warns of those that are unusual.
void take_label_maps(const Manifest& manifest, const seggd_request& request, int images, const std::vector<int>& kept,
                     Run& run, const Warn& warn) {
  const ImageSpec& image = manifest.image;
  check_size_of_label_maps(image, request, run.on_device);
  const int maps = array_count(request.label_map_count, images, "label maps");
  if (run.on_device) {
    run.label_maps = parts(request.label_maps, maps, images, image.pixels());
    return;
  }
  const size_t count = static_cast<size_t>(maps),
               given = static_cast<size_t>(request.height) * static_cast<size_t>(request.width);
  check_label_map(request.label_maps, count * given, manifest.classes);
  if (looks_one_hot(request.label_maps, count, given, manifest.classes.size()))
    warn(SEGGD_WARNING_ONE_HOT, "a stack of " + std::to_string(count) +
                                    " label maps of zeros and ones looks one-hot, and each is drawn as an image of "
                                    "class 1: if it is, make one map of class ids of it (sum of id * map)");
  const uint8_t* label_maps = fitted(image, request, count, run, warn);
  run.label_maps = parts(label_maps, maps, images, image.pixels());
  for (size_t map = 0; map < count; ++map) {
    const uint8_t* first = label_maps + map * image.pixels();
    if (std::any_of(first, first + image.pixels(),
                    [&](uint8_t label) { return std::count(kept.begin(), kept.end(), label) != 0; }))
      continue;
    const bool seen = manifest.mask.trained_with_empty_mask.value_or(false);
    warn(SEGGD_WARNING_EMPTY_MASK,
         std::string("a mask has no foreground") + (seen ? "" : ", which this network was not trained with"));
    break;
  }
}

std::vector<const float*> noise_of(const Manifest& manifest, const seggd_request& request, int images, bool on_device) {
  if (!request.noise) return {};
  const int count = array_count(request.noise_count, images, "noise arrays");
  const size_t size = manifest.image.elements();
  if (!on_device && !std::all_of(request.noise, request.noise + static_cast<size_t>(count) * size,
                                 [](float number) { return std::isfinite(number); }))
    throw Error(SEGGD_DATA, "noise must be finite");
  return parts(request.noise, count, images, size);
}

std::vector<uint64_t> seeds_of(const seggd_request& request, int images) {
  if (request.seeds) return {request.seeds, request.seeds + images};
  if (images == 1) return {request.seed};
  std::vector<uint64_t> seeds;
  for (int image = 0; image < images; ++image) seeds.push_back(derive_seed(request.seed, image));
  return seeds;
}

size_t pixel_size(seggd_pixel_type type) {
  if (type == SEGGD_FLOAT32) return sizeof(float);
  if (type == SEGGD_UINT8) return 1;
  throw Error(SEGGD_OPTION, "there is no pixel type " + std::to_string(type));
}

}  // namespace

int image_count(const seggd_request& request) {
  if (request.count < 0)
    throw Error(SEGGD_OPTION, "count is " + std::to_string(request.count) + "; it must not be negative");
  return request.count == 0 ? 1 : request.count;
}

seggd_request with_defaults(const ImageSpec& image, seggd_request request) {
  if (request.height == 0 && request.width == 0) request.height = image.height, request.width = image.width;
  return request;
}

seggd_interpolation with_defaults(seggd_interpolation how) {
  static constexpr double kWeight = 0.5, kAt = 0.6;
  if (!how.weights && how.weight_count == 0) how.weights = &kWeight, how.weight_count = 1;
  if (how.at == 0) how.at = kAt;
  return how;
}

Run prepare(const Manifest& manifest, const seggd_request& given, const Warn& warn, bool on_device) {
  const seggd_request request = with_defaults(manifest.image, given);
  const int images = image_count(request);
  if (request.preview_every < 0) throw Error(SEGGD_OPTION, "preview_every must not be negative");
  Run run;
  run.on_device = on_device;
  run.table = table_of(manifest, request);
  const std::vector<int> kept =
      kept_classes(manifest, {request.keep, request.keep_count, request.drop, request.drop_count}, warn);
  run.encoding = encode_table(manifest.mask.encoding, manifest.classes.size(), kept);
  run.seeds = seeds_of(request, images);
  run.noise = noise_of(manifest, request, images, on_device);
  take_label_maps(manifest, request, images, kept, run, warn);
  return run;
}

std::vector<int> kept_classes(const Manifest& manifest, const Selection& selection, const Warn& warn) {
  // A list that is there and empty is given: it names no class, which is an error as in Python.
  const bool keeps = selection.keep || selection.keep_count > 0, drops = selection.drop || selection.drop_count > 0;
  const std::vector<std::string> keep =
      keeps ? listed(selection.keep, selection.keep_count, "keep") : std::vector<std::string>{};
  const std::vector<std::string> drop =
      drops ? listed(selection.drop, selection.drop_count, "drop") : std::vector<std::string>{};
  const std::vector<int> kept = select_classes(manifest.classes, keeps ? &keep : nullptr, drops ? &drop : nullptr);
  if (kept.size() < manifest.classes.size() - 1 && !manifest.mask.trained_with_ablation.value_or(true))
    warn(SEGGD_WARNING_ABLATION,
         "this network was trained on whole masks: what it draws where classes are left out is a guess");
  return kept;
}

std::vector<float> read_real(const Manifest& manifest, const void* real, size_t size_bytes, seggd_pixel_type type) {
  require(real != nullptr, "real");
  check_size(manifest, 1, size_bytes, type, "the real image");
  const size_t channels = static_cast<size_t>(manifest.image.channels), pixels = manifest.image.pixels();
  std::vector<float> latent(manifest.image.elements());
  for (size_t i = 0; i < latent.size(); ++i) {
    const float pixel = type == SEGGD_UINT8 ? static_cast<float>(static_cast<const uint8_t*>(real)[i]) / 255.0f
                                            : static_cast<const float*>(real)[i];
    if (!(pixel >= 0.0f && pixel <= 1.0f))
      throw Error(SEGGD_DATA, "a real image of floats must lie in [0, 1]: scale it first");
    latent[i % channels * pixels + i / channels] = pixel * 2.0f - 1.0f;
  }
  return latent;
}

void check_size(const Manifest& manifest, int count, size_t size_bytes, seggd_pixel_type type,
                const std::string& what) {
  const size_t image = manifest.image.elements() * pixel_size(type);
  if (size_bytes % image == 0 && size_bytes / image == static_cast<size_t>(count)) return;
  throw Error(SEGGD_DATA, what + " has " + std::to_string(size_bytes) + " bytes; " + std::to_string(count) + " of " +
                              std::to_string(manifest.image.height) + "x" + std::to_string(manifest.image.width) + "x" +
                              std::to_string(manifest.image.channels) + " " +
                              (type == SEGGD_UINT8 ? "bytes" : "floats") + " take " + std::to_string(image) + " each");
}

uint64_t derive_seed(uint64_t seed, int index) {
  const Words words = philox(seed, static_cast<Word>(index), 0, kSeed, 0);
  return (static_cast<uint64_t>(words.at[1]) << 32 | words.at[0]) & kSeedMask;
}

}  // namespace seggd::core
