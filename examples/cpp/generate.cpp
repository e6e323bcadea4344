// A PNG mask to a PNG image: generate BUNDLE MASK.png IMAGE.png [SEED]
//
// The mask has class ids as its pixels: of a palette, or in 8 bits of grey. ONNX Runtime is what SEGGD_ONNXRUNTIME
// names.
#include <png.h>

#include <cstdio>
#include <cstdlib>
#include <seggd/seggd.hpp>

namespace {

[[noreturn]] void give_up(png_structp, png_const_charp message) {
  std::fprintf(stderr, "PNG: %s\n", message);
  std::exit(2);
}

std::FILE* open_file(const char* path, const char* mode) {
  std::FILE* file = std::fopen(path, mode);
  if (!file) {
    std::perror(path);
    std::exit(2);
  }
  return file;
}

// Labels as they are stored: a palette's indices are not made colours.
std::vector<std::uint8_t> read_labels(const char* path, int& height, int& width) {
  std::FILE* file = open_file(path, "rb");
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, give_up, nullptr);
  png_infop info = png_create_info_struct(png);
  png_init_io(png, file);
  png_read_png(png, info, PNG_TRANSFORM_PACKING, nullptr);
  const int kind = png_get_color_type(png, info);
  if ((kind != PNG_COLOR_TYPE_PALETTE && kind != PNG_COLOR_TYPE_GRAY) || png_get_bit_depth(png, info) > 8)
    give_up(png, "a mask has class ids as its pixels, not colours");
  height = static_cast<int>(png_get_image_height(png, info)), width = static_cast<int>(png_get_image_width(png, info));
  std::vector<std::uint8_t> labels;
  png_bytepp rows = png_get_rows(png, info);
  for (int row = 0; row < height; ++row) labels.insert(labels.end(), rows[row], rows[row] + width);
  png_destroy_read_struct(&png, &info, nullptr);
  std::fclose(file);
  return labels;
}

void write_image(const char* path, const std::vector<std::uint8_t>& pixels, const seggd_bundle_info& size) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(size.width), image.height = static_cast<png_uint_32>(size.height);
  image.format = size.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  if (!png_image_write_to_file(&image, path, 0, pixels.data(), 0, nullptr)) give_up(nullptr, image.message);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: generate BUNDLE MASK.png IMAGE.png [SEED]\n");
    return 2;
  }
  try {
    const seggd::Bundle bundle(argv[1]);
    const seggd::Generator generator(bundle);
    const seggd::EngineInfo engine = generator.engine();
    std::fprintf(stderr, "%s %s in %s on %s\n", engine.name.c_str(), engine.version.c_str(), engine.precision.c_str(),
                 engine.device_name.c_str());

    seggd::Request request;
    const std::vector<std::uint8_t> labels = read_labels(argv[2], request.height, request.width);
    request.label_maps = labels.data();
    request.seed = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 0;
    request.resize_label_maps = true;  // with a warning
    request.on_warning = [](seggd_warning, const std::string& message) {
      std::fprintf(stderr, "%s\n", message.c_str());
    };
    request.on_step = [](const seggd_step& step) {
      std::fprintf(stderr, "\rstep %d of %d", step.index + 1, step.steps);
      return true;  // false would end the run
    };
    const std::vector<std::uint8_t> image = generator.generate<std::uint8_t>(request);
    std::fprintf(stderr, "\n");
    write_image(argv[3], image, bundle.info());
  } catch (const seggd::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return 0;
}
