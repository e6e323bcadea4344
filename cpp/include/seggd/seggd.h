/* seggd-rt for C: images from label maps, from the same bundles, with the same seeds, as the Python runtime.
 *
 * Ownership. A handle that a function gives (bundle, engines, generator) is the caller's, who gives it back by its
 *   `_close`; closing NULL does nothing. A generator keeps what it needs of its bundle, so either may be closed first.
 *   Strings in structs that a function fills belong to the handle they came from, and live as long as it does. Memory
 *   that a caller passes is only used during the call, and images are written into the caller's own.
 * Threads. Handles may be shared: any number of threads may generate with one generator at once, each call in buffers
 * of its own. Closing is for one thread, when no other is in a call. Errors. Every function that can fail returns a
 * status and leaves its outputs as they were; `seggd_last_error` says in one or two sentences what was wrong and what
 * to do. No C++ exception leaves the library. Text is UTF-8, paths too, on Windows as well. A character of a message
 * that would move a terminal's cursor, or hide or reverse text, is an escape there: \u001b.
 * Versions. Structs begin with `struct_size`, which the caller sets to sizeof of the struct it knows. A library that is
 * newer or older than the caller's header reads and writes what both know, and refuses a newer caller's setting that it
 * does not.
 * Defaults. In a struct that the caller fills, every member but `struct_size` has a comment on 0 or NULL: the default
 * that it stands for, or "required" where it is an error. So a caller clears a struct and sets what it needs. In a
 * struct that the library fills, no string is NULL, and a text that is not known is "".
 */
#ifndef SEGGD_SEGGD_H
#define SEGGD_SEGGD_H

#include <stddef.h>
#include <stdint.h>

#if defined(SEGGD_STATIC)
#define SEGGD_API
#elif defined(_WIN32) && defined(SEGGD_BUILDING)
#define SEGGD_API __declspec(dllexport)
#elif defined(_WIN32)
#define SEGGD_API __declspec(dllimport)
#else
#define SEGGD_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a call came to. A fixed width, so that every compiler passes it alike. */
typedef int32_t seggd_status;
enum {
  SEGGD_OK = 0,
  SEGGD_ARGUMENT = 1,            /* a null pointer, or a struct of no known size */
  SEGGD_OPTION = 2,              /* a setting outside its range, or a name that is not there */
  SEGGD_DATA = 3,                /* memory of the wrong size, or numbers that cannot be what they are given as */
  SEGGD_LABEL_MAP = 4,           /* a label map of the wrong size or labels */
  SEGGD_BUNDLE = 5,              /* a bundle that is not one, or lacks the graph */
  SEGGD_MANIFEST = 6,            /* bundle.json breaks its schema */
  SEGGD_BUNDLE_VERSION = 7,      /* bundle.json follows a newer schema */
  SEGGD_INTEGRITY = 8,           /* a file of the bundle is missing, changed or outside its folder */
  SEGGD_ENGINE = 9,              /* an engine failed */
  SEGGD_ENGINE_UNAVAILABLE = 10, /* an engine, device, precision or library cannot be had here */
  SEGGD_ENGINE_CHECK = 11,       /* an engine's outputs miss the bundle's golden states */
  SEGGD_CANCELLED = 12,          /* the callback ended the run */
  SEGGD_CALLBACK = 13,           /* the callback threw a C++ exception */
  SEGGD_OUT_OF_MEMORY = 14,
  SEGGD_INTERNAL = 15 /* a defect of this library: please report it */
};

/* How pixels are stored: float in [0, 1], or bytes from 0 to 255. */
typedef int32_t seggd_pixel_type;
enum { SEGGD_FLOAT32 = 0, SEGGD_UINT8 = 1 };

typedef struct seggd_bundle seggd_bundle;
typedef struct seggd_engines seggd_engines;
typedef struct seggd_generator seggd_generator;

/* The version of the library, as "0.1.0". */
SEGGD_API const char* seggd_version(void);

/* What went wrong in this thread's last call that failed; "" if none has. Valid until the next one that does. */
SEGGD_API const char* seggd_last_error(void);

/* ---- Bundles ---- */

/* The library fills it. `name` is the file's own text: escape it before a terminal shows it. */
typedef struct seggd_bundle_info {
  size_t struct_size;
  const char* name;
  const char* sha256; /* of bundle.json, which hashes every other file */
  int32_t channels, height, width;
  int32_t classes; /* with the background */
  int32_t train_steps;
  int32_t default_steps;
  const char* default_sampler;
  const char* precisions; /* of its graphs: "fp32, fp16" */
} seggd_bundle_info;

/* The library fills it. */
typedef struct seggd_class {
  size_t struct_size;
  int32_t id;
  const char* name;
  uint8_t color[3]; /* red, green, blue */
} seggd_class;

/* Opens a bundle's folder: reads and checks its manifest. Other files are hashed when they are first used. */
SEGGD_API seggd_status seggd_bundle_open(const char* path, seggd_bundle** bundle);
/* Hashes every file, and checks the golden run and what the manifest means. */
SEGGD_API seggd_status seggd_bundle_verify(const seggd_bundle* bundle);
SEGGD_API seggd_status seggd_bundle_get_info(const seggd_bundle* bundle, seggd_bundle_info* info);
/* Class `index` of [0, classes); 0 is the background. */
SEGGD_API seggd_status seggd_bundle_get_class(const seggd_bundle* bundle, int32_t index, seggd_class* found);
SEGGD_API void seggd_bundle_close(seggd_bundle* bundle);

/* ---- Engines ---- */

/* Which engine generates, and where. Paths that are "" are as NULL. */
typedef struct seggd_load_options {
  size_t struct_size;
  const char* engine; /* "tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "openvino", "onnxruntime"; NULL or "auto": the
                         first of these that can run here */
  const char* precision;   /* "fp32", "fp16", "bf16"; NULL or "auto": the engine's own choice where its golden image
                              reaches 40 dB PSNR, else fp32 */
  const char* device;      /* "cpu", "cuda:0"; NULL or "auto": the first GPU, else the CPU */
  int32_t threads;         /* CPU threads of a network call, at most the machine's cores; 0: the engine's own choice */
  const char* onnxruntime; /* path of ONNX Runtime's library; NULL: the environment's SEGGD_ONNXRUNTIME, else the one
                              that the system finds */
  const char* openvino_plugin;     /* path of an execution provider plugin of ONNX Runtime; NULL: the environment's
                                      SEGGD_OPENVINO_PLUGIN, else none */
  const char* tensorrt_rtx_plugin; /* another; NULL: the environment's SEGGD_TENSORRT_RTX_PLUGIN, else none */
  const char* tensorrt;            /* path of TensorRT's library, where this build runs plans; NULL: the environment's
                                      SEGGD_TENSORRT, else the one that the system finds */
  /* Path of a plan of `seggd-rt build`, with its record (.json) beside it. A plan is code: whoever names it here trusts
   * the folder it lies in. NULL: the environment's SEGGD_TENSORRT_PLAN, else the plans that this user built or added
   * (`seggd-rt cache`). */
  const char* tensorrt_plan;
} seggd_load_options;

/* The library fills it. */
typedef struct seggd_engine_info {
  size_t struct_size;
  const char* name;
  const char* device;
  const char* device_name;
  const char* version;
  const char* precision; /* of a generator: what it computes in; in a list: all it can, its own choice first */
  int32_t usable;        /* 1, or 0 where it cannot run here */
  const char* reason;    /* why it cannot run here, and what to do; of a generator: the skipped engines, and why */
} seggd_engine_info;

/* Lists every engine in the order of "auto", and whether it can run here. `options` may be NULL. */
SEGGD_API seggd_status seggd_engines_list(const seggd_load_options* options, seggd_engines** engines);
SEGGD_API int32_t seggd_engines_count(const seggd_engines* engines);
SEGGD_API seggd_status seggd_engines_get(const seggd_engines* engines, int32_t index, seggd_engine_info* info);
SEGGD_API void seggd_engines_close(seggd_engines* engines);

/* ---- Generators ---- */

/* Chooses an engine, opens the graph and checks it against the bundle's golden run. `options` may be NULL. */
SEGGD_API seggd_status seggd_generator_open(const seggd_bundle* bundle, const seggd_load_options* options,
                                            seggd_generator** generator);
/* What really runs. */
SEGGD_API seggd_status seggd_generator_get_engine(const seggd_generator* generator, seggd_engine_info* info);
SEGGD_API void seggd_generator_close(seggd_generator* generator);

/* One finished step. The library fills it. */
typedef struct seggd_step {
  size_t struct_size;
  int32_t index; /* from 0 */
  int32_t steps;
  int32_t timestep;
  const float* preview; /* (N, H, W, C) float in [0, 1], the estimate of the images, valid during the callback; NULL
                           unless `preview_every` asks for it */
} seggd_step;

/* Called after every step, in the thread that generates; any value but 0 ends the run with SEGGD_CANCELLED. */
typedef int32_t (*seggd_on_step)(const seggd_step* step, void* user);

/* What a caller should know of a request, as Python's warnings. */
typedef int32_t seggd_warning;
enum {
  SEGGD_WARNING_EMPTY_MASK = 1,   /* a mask has no foreground */
  SEGGD_WARNING_ABLATION = 2,     /* classes are left out for a network that was trained on whole masks */
  SEGGD_WARNING_RESIZED = 3,      /* label maps were resized */
  SEGGD_WARNING_ASPECT_RATIO = 4, /* and that distorts them */
  SEGGD_WARNING_ONE_HOT = 5       /* a stack of label maps looks like one map with an axis of classes */
};

/* Called before the first step, in the thread that generates, with a sentence that is valid during the call; any value
 * but 0 ends the run with SEGGD_CANCELLED. New kinds may come. */
typedef int32_t (*seggd_on_warning)(seggd_warning kind, const char* message, void* user);

/* What to generate: N images, C channels, (height, width) H x W. */
typedef struct seggd_request {
  size_t struct_size;
  int32_t count;               /* N; 0 is 1 */
  const uint8_t* label_maps;   /* (label_map_count, H, W): the bundle's class ids; one serves all images; required */
  int32_t label_map_count;     /* 1 or N; 0 is 1 */
  int32_t height, width;       /* of the label maps: the bundle's, or others with `resize_label_maps`; both 0: the
                                  bundle's */
  const uint64_t* seeds;       /* (N); NULL: for one image `seed`, for several derived from `seed` as in Python */
  uint64_t seed;               /* 0 is a seed as any other; it has no effect where `seeds` is given */
  const float* noise;          /* (noise_count, C, H, W), normal, to start from; NULL: the noise of the seeds */
  int32_t noise_count;         /* 1 or N; 0 is 1 */
  const char* sampler;         /* "ddim", "ddpm", "dpm-solver++", "dpm-solver++-sde"; NULL: the bundle's */
  int32_t steps;               /* in [1, train_steps]; 0: the bundle's, or another sampler's usual ones */
  double eta;                  /* in [0, 1], of "ddim"; 0: no noise is added */
  const char* spacing;         /* "leading", "trailing", "linspace"; NULL: the bundle's */
  const char* const* keep;     /* names of the classes to keep, or ... */
  size_t keep_count;           /* 0 with `keep` NULL: every class; 0 with a list: an error, as no class would stay */
  const char* const* drop;     /* ... to leave out of the mask; not both */
  size_t drop_count;           /* 0 with `drop` NULL: none; 0 with a list: none */
  seggd_on_step on_step;       /* NULL: none is called */
  void* user;                  /* passed to both callbacks, NULL too */
  int32_t preview_every;       /* steps between two previews for `on_step`; 0: none */
  seggd_on_warning on_warning; /* NULL: none is called */
  int32_t resize_label_maps;   /* 0: label maps of another size are an error; else they are resized by nearest
                                  neighbor, with a warning */
} seggd_request;

/* Draws (N, H, W, C) into `images`, whose size must be just that. After a failure its content is undefined. */
SEGGD_API seggd_status seggd_generate(seggd_generator* generator, const seggd_request* request, void* images,
                                      size_t size_bytes, seggd_pixel_type type);

/* As seggd_generate, of a generator on a GPU, with the request's label maps and noise, and `images`, in that GPU's
 * memory: nothing of them passes through the host. They are read and written after all that `stream`, a cudaStream_t
 * (NULL: the default stream), was given before, and the images are there when the call returns. Label maps in the GPU's
 * memory are not looked at for warnings; labels outside the classes are SEGGD_LABEL_MAP after the run. Of an engine
 * that works in host memory: SEGGD_ENGINE_UNAVAILABLE. */
SEGGD_API seggd_status seggd_generate_on_device(seggd_generator* generator, const seggd_request* request, void* stream,
                                                void* images, size_t size_bytes, seggd_pixel_type type);

/* Mixing with a real image: (1 - weight) x_t + weight x'_t at the fraction `at` of the schedule, then denoised. */
typedef struct seggd_interpolation {
  size_t struct_size;
  const void* real;             /* (H, W, C); required */
  size_t real_size_bytes;       /* required */
  seggd_pixel_type real_type;   /* 0 is SEGGD_FLOAT32 */
  const double* weights;        /* (weight_count) in [0, 1]; each makes one image */
  size_t weight_count;          /* 0 with `weights` NULL: one weight, 0.5; 0 with a list: an error */
  double at;                    /* in (0, 1]: how noisy both are when they are mixed; 0 is 0.6 */
  const char* const* then_keep; /* classes to keep after the mixing, or ... */
  size_t then_keep_count;       /* counts as in seggd_request */
  const char* const* then_drop; /* ... to leave out; with both NULL, those of the request stay */
  size_t then_drop_count;
} seggd_interpolation;

/* Generates (weight_count, H, W, C) from one label map and one seed; the callback is told of the steps after the
 * mixing. */
SEGGD_API seggd_status seggd_interpolate(seggd_generator* generator, const seggd_request* request,
                                         const seggd_interpolation* interpolation, void* images, size_t size_bytes,
                                         seggd_pixel_type type);

#ifdef __cplusplus
}
#endif

#endif
