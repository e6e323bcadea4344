/* An image in C: minimal BUNDLE IMAGE.pgm. ONNX Runtime is what SEGGD_ONNXRUNTIME names. */
#include <seggd/seggd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(seggd_status status) {
  if (status == SEGGD_OK) return;
  fprintf(stderr, "%s\n", seggd_last_error());
  exit(2);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: minimal BUNDLE IMAGE.pgm\n");
    return 2;
  }
  seggd_bundle* bundle = NULL;
  require(seggd_bundle_open(argv[1], &bundle));
  seggd_bundle_info info = {.struct_size = sizeof info};
  require(seggd_bundle_get_info(bundle, &info));
  seggd_generator* generator = NULL;
  require(seggd_generator_open(bundle, NULL, &generator));

  /* A stripe of class 1 across the middle. */
  const size_t pixels = (size_t)info.height * (size_t)info.width, size = pixels * (size_t)info.channels;
  uint8_t* label_map = calloc(pixels, 1);
  uint8_t* image = malloc(size);
  if (!label_map || !image) return 2;
  memset(label_map + pixels / 3, 1, pixels / 3);

  const seggd_request request = {
      .struct_size = sizeof request, .label_maps = label_map, .height = info.height, .width = info.width, .seed = 7};
  require(seggd_generate(generator, &request, image, size, SEGGD_UINT8));

  FILE* file = fopen(argv[2], "wb");
  if (!file) {
    perror(argv[2]);
    return 2;
  }
  fprintf(file, "P%d\n%d %d\n255\n", info.channels == 1 ? 5 : 6, (int)info.width, (int)info.height);
  fwrite(image, 1, size, file);
  fclose(file);

  free(image);
  free(label_map);
  seggd_generator_close(generator);
  seggd_bundle_close(bundle);
  return 0;
}
