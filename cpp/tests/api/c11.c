/* The header and the library as a program in C11 sees them: draws an image, fails on purpose, gives everything back. */
#include <seggd/seggd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t count_steps(const seggd_step* step, void* user) {
  *(int32_t*)user += step->steps > 0;
  return 0;
}

static void require(int holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "%s: %s\n", what, seggd_last_error());
  exit(1);
}

int main(int argc, char** argv) {
  require(argc == 3, "usage: c11 BUNDLE ONNXRUNTIME");
  require(strlen(seggd_version()) > 0, "version");

  seggd_bundle* bundle = NULL;
  require(seggd_bundle_open("", &bundle) == SEGGD_BUNDLE && strlen(seggd_last_error()) > 0, "no bundle");
  require(seggd_bundle_open(argv[1], &bundle) == SEGGD_OK, "open");
  seggd_bundle_info info = {.struct_size = sizeof info};
  require(seggd_bundle_get_info(bundle, &info) == SEGGD_OK, "info");

  seggd_load_options options = {.struct_size = sizeof options, .device = "cpu", .onnxruntime = argv[2]};
  seggd_engines* engines = NULL;
  require(seggd_engines_list(&options, &engines) == SEGGD_OK && seggd_engines_count(engines) == 5, "engines");
  seggd_engines_close(engines);

  seggd_generator* generator = NULL;
  require(seggd_generator_open(bundle, &options, &generator) == SEGGD_OK, "generator");
  const size_t pixels = (size_t)info.height * (size_t)info.width, elements = pixels * (size_t)info.channels;
  uint8_t* label_map = calloc(pixels, 1);
  float* image = calloc(elements, sizeof *image);
  require(label_map && image, "memory");
  memset(label_map + pixels / 3, 1, pixels / 3);

  int32_t told = 0;
  seggd_request request = {.struct_size = sizeof request,
                           .label_maps = label_map,
                           .height = info.height,
                           .width = info.width,
                           .seed = 7,
                           .steps = 4,
                           .on_step = count_steps,
                           .user = &told};
  require(seggd_generate(generator, &request, image, elements * sizeof *image, SEGGD_FLOAT32) == SEGGD_OK, "generate");
  require(told == 4, "steps");
  float least = 1, most = 0;
  for (size_t i = 0; i < elements; ++i) {
    least = image[i] < least ? image[i] : least;
    most = image[i] > most ? image[i] : most;
  }
  require(least >= 0 && most <= 1 && most - least > 0.1f, "an image");

  free(image);
  free(label_map);
  seggd_generator_close(generator);
  seggd_bundle_close(bundle);
  return 0;
}
