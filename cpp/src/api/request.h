// What a caller asks for, checked, and turned into a run: seggd_rt/inference/request.py and drawing.py.
#pragma once

#include <seggd/seggd.h>

#include <functional>
#include <string>
#include <vector>

#include "bundle/manifest.h"
#include "core/session.h"

namespace seggd::core {

// How many images are asked for; SEGGD_OPTION where it is negative.
int image_count(const seggd_request& request);

// A request with the bundle's size in place of a height and width of 0.
seggd_request with_defaults(const ImageSpec& image, seggd_request request);

// An interpolation with Python's defaults in place of no weights and of an `at` of 0.
seggd_interpolation with_defaults(seggd_interpolation how);

// Told of what a caller should know before it is drawn; what it throws ends the call.
using Warn = std::function<void(seggd_warning, const std::string&)>;

// A run of checked inputs. It refers to the request's memory; on a device, that is not looked at.
// SEGGD_ARGUMENT, SEGGD_OPTION, SEGGD_DATA and SEGGD_LABEL_MAP as their descriptions say.
Run prepare(const Manifest& manifest, const seggd_request& given, const Warn& warn, bool on_device = false);

// Classes to keep or to leave out, by name; either may be null with a count of 0.
struct Selection {
  const char* const* keep;
  size_t keep_count;
  const char* const* drop;
  size_t drop_count;

  bool is_given() const { return keep || drop || keep_count > 0 || drop_count > 0; }
};

// Ids of the classes that stay.
std::vector<int> kept_classes(const Manifest& manifest, const Selection& selection, const Warn& warn);

// A real image, (H, W, C), as the network sees it, (C, H, W) in [-1, 1]; SEGGD_DATA where it has another size, or
// values outside [0, 1].
std::vector<float> read_real(const Manifest& manifest, const void* real, size_t size_bytes, seggd_pixel_type type);

// SEGGD_DATA where memory for `count` images has another size.
void check_size(const Manifest& manifest, int count, size_t size_bytes, seggd_pixel_type type, const std::string& what);

// The seed of copy 0 of the mask at an index of a run: seggd_rt.diffusion.noise.derive_seed.
uint64_t derive_seed(uint64_t seed, int index);

}  // namespace seggd::core
