// The C ABI: handles around the C++ objects, and the only place where exceptions become statuses.
#include <seggd/seggd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "api/generator.h"
#include "api/loading.h"
#include "api/versioned.h"
#include "core/error.h"
#include "core/names.h"
#include "core/printable.h"

struct seggd_bundle {
  std::shared_ptr<const seggd::core::Bundle> bundle;
  std::string precisions;
};

struct seggd_engines {
  std::vector<seggd::core::EngineState> states;
  std::vector<std::string> precisions;
};

struct seggd_generator {
  std::unique_ptr<seggd::core::Generator> generator;
};

namespace {

using seggd::core::Error;

constexpr const char* kNoMemory = "there is not enough memory: ask for fewer images at once";

// Longer messages, as of a path that a caller made up, are cut: noting an error must not fail itself.
thread_local char last_error[2048] = "";

void note(std::string_view message) noexcept {
  size_t length = std::min(message.size(), sizeof last_error - 1);
  const auto within_character = [&] { return length < message.size() && (message[length] & 0xc0) == 0x80; };
  while (length > 0 && within_character()) --length;
  std::memmove(last_error, message.data(), length);
  last_error[length] = '\0';
}

// A message may quote a file of others, which must not move a terminal's cursor: see printable.h.
seggd_status failed(seggd_status status, const char* message) noexcept {
  try {
    note(seggd::core::printable(message));
  } catch (const std::bad_alloc&) {
    note(kNoMemory);
  }
  return status;
}

template <class Call>
seggd_status guarded(Call call) noexcept {
  try {
    call();
    return SEGGD_OK;
  } catch (const Error& error) {
    return failed(error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return failed(SEGGD_OUT_OF_MEMORY, kNoMemory);
  } catch (const std::length_error&) {
    return failed(SEGGD_OUT_OF_MEMORY, kNoMemory);
  } catch (const std::exception& error) {
    return failed(SEGGD_INTERNAL, error.what());
  } catch (...) {
    return failed(SEGGD_INTERNAL, "an exception of an unknown kind");
  }
}

template <class Pointer>
Pointer* required(Pointer* pointer, const char* name) {
  if (!pointer) throw Error(SEGGD_ARGUMENT, std::string(name) + " is a null pointer");
  return pointer;
}

std::string text_or(const char* text, const char* otherwise) { return text ? text : otherwise; }

seggd::core::LoadOptions load_options(const seggd_load_options* given) {
  if (!given) return {};
  const seggd_load_options known = seggd::core::read_struct(given, "options");
  return {text_or(known.engine, "auto"),
          text_or(known.precision, "auto"),
          text_or(known.device, "auto"),
          known.threads,
          {text_or(known.onnxruntime, ""), text_or(known.openvino_plugin, ""), text_or(known.tensorrt_rtx_plugin, ""),
           text_or(known.tensorrt, ""), text_or(known.tensorrt_plan, "")}};
}

template <class List, class NameOf>
std::string precisions_of(const List& list, NameOf name_of) {
  std::vector<std::string> names;
  for (const auto& one : list) names.emplace_back(seggd::core::kPrecisions.name(name_of(one)));
  return seggd::core::joined(names);
}

void check_index(int32_t index, size_t count) {
  if (index < 0 || static_cast<size_t>(index) >= count)
    throw Error(SEGGD_OPTION, "index is " + std::to_string(index) + "; there are " + std::to_string(count));
}

}  // namespace

extern "C" {

const char* seggd_version(void) { return SEGGD_VERSION; }

const char* seggd_last_error(void) { return last_error; }

seggd_status seggd_bundle_open(const char* path, seggd_bundle** bundle) {
  return guarded([&] {
    required(bundle, "bundle");
    auto opened = std::make_shared<const seggd::core::Bundle>(std::filesystem::u8path(required(path, "path")));
    const auto precision = [](const seggd::core::Graph& graph) { return graph.precision; };
    std::string precisions = precisions_of(opened->manifest().graphs, precision);
    *bundle = new seggd_bundle{std::move(opened), std::move(precisions)};
  });
}

seggd_status seggd_bundle_verify(const seggd_bundle* bundle) {
  return guarded([&] { required(bundle, "bundle")->bundle->verify(); });
}

seggd_status seggd_bundle_get_info(const seggd_bundle* bundle, seggd_bundle_info* info) {
  return guarded([&] {
    const seggd::core::Bundle& opened = *required(bundle, "bundle")->bundle;
    const seggd::core::Manifest& manifest = opened.manifest();
    seggd_bundle_info known{};
    known.name = manifest.name.c_str();
    known.sha256 = opened.sha256().c_str();
    known.channels = manifest.image.channels;
    known.height = manifest.image.height;
    known.width = manifest.image.width;
    known.classes = static_cast<int32_t>(manifest.classes.size());
    known.train_steps = manifest.schedule.train_steps;
    known.default_steps = manifest.defaults.steps;
    known.default_sampler = seggd::core::kSamplers.name(manifest.defaults.sampler).data();
    known.precisions = bundle->precisions.c_str();
    seggd::core::write_struct(known, info, "info");
  });
}

seggd_status seggd_bundle_get_class(const seggd_bundle* bundle, int32_t index, seggd_class* found) {
  return guarded([&] {
    const std::vector<seggd::core::LabelClass>& classes = required(bundle, "bundle")->bundle->manifest().classes;
    check_index(index, classes.size());
    const seggd::core::LabelClass& one = classes[static_cast<size_t>(index)];
    seggd_class known{};
    known.id = one.id;
    known.name = one.name.c_str();
    for (size_t i = 0; i < 3; ++i) known.color[i] = static_cast<uint8_t>(one.color[i]);
    seggd::core::write_struct(known, found, "found");
  });
}

void seggd_bundle_close(seggd_bundle* bundle) { delete bundle; }

seggd_status seggd_engines_list(const seggd_load_options* options, seggd_engines** engines) {
  return guarded([&] {
    required(engines, "engines");
    auto listed = std::make_unique<seggd_engines>();
    listed->states = seggd::core::list_engines(load_options(options));
    for (const seggd::core::EngineState& state : listed->states)
      listed->precisions.push_back(
          precisions_of(state.there.precisions, [](seggd::core::Precision one) { return one; }));
    *engines = listed.release();
  });
}

int32_t seggd_engines_count(const seggd_engines* engines) {
  return engines ? static_cast<int32_t>(engines->states.size()) : 0;
}

seggd_status seggd_engines_get(const seggd_engines* engines, int32_t index, seggd_engine_info* info) {
  return guarded([&] {
    check_index(index, required(engines, "engines")->states.size());
    const size_t place = static_cast<size_t>(index);
    const seggd::core::EngineState& state = engines->states[place];
    seggd_engine_info known{};
    known.name = state.name.c_str();
    known.device = state.device.c_str();
    known.device_name = state.there.device_name.c_str();
    known.version = state.there.version.c_str();
    known.precision = engines->precisions[place].c_str();
    known.usable = state.there.usable ? 1 : 0;
    known.reason = state.there.reason.c_str();
    seggd::core::write_struct(known, info, "info");
  });
}

void seggd_engines_close(seggd_engines* engines) { delete engines; }

seggd_status seggd_generator_open(const seggd_bundle* bundle, const seggd_load_options* options,
                                  seggd_generator** generator) {
  return guarded([&] {
    required(generator, "generator");
    const std::shared_ptr<const seggd::core::Bundle>& opened = required(bundle, "bundle")->bundle;
    auto made = std::make_unique<seggd_generator>();
    made->generator =
        std::make_unique<seggd::core::Generator>(opened, seggd::core::load(*opened, load_options(options)));
    *generator = made.release();
  });
}

seggd_status seggd_generator_get_engine(const seggd_generator* generator, seggd_engine_info* info) {
  return guarded([&] {
    const seggd::core::EngineInfo& runs = required(generator, "generator")->generator->info();
    seggd_engine_info known{};
    known.name = runs.engine.c_str();
    known.device = runs.device.c_str();
    known.device_name = runs.device_name.c_str();
    known.version = runs.version.c_str();
    known.precision = seggd::core::kPrecisions.name(runs.precision).data();
    known.usable = 1;
    known.reason = runs.notes.c_str();
    seggd::core::write_struct(known, info, "info");
  });
}

void seggd_generator_close(seggd_generator* generator) { delete generator; }

seggd_status seggd_generate(seggd_generator* generator, const seggd_request* request, void* images, size_t size_bytes,
                            seggd_pixel_type type) {
  return guarded([&] {
    required(generator, "generator")
        ->generator->generate(seggd::core::read_struct(request, "request"),
                              {required(images, "images"), size_bytes, type});
  });
}

seggd_status seggd_generate_on_device(seggd_generator* generator, const seggd_request* request, void* stream,
                                      void* images, size_t size_bytes, seggd_pixel_type type) {
  return guarded([&] {
    required(generator, "generator")
        ->generator->generate_on_device(seggd::core::read_struct(request, "request"), stream,
                                        {required(images, "images"), size_bytes, type});
  });
}

seggd_status seggd_interpolate(seggd_generator* generator, const seggd_request* request,
                               const seggd_interpolation* interpolation, void* images, size_t size_bytes,
                               seggd_pixel_type type) {
  return guarded([&] {
    required(generator, "generator")
        ->generator->interpolate(seggd::core::read_struct(request, "request"),
                                 seggd::core::read_struct(interpolation, "interpolation"),
                                 {required(images, "images"), size_bytes, type});
  });
}

}  // extern "C"
