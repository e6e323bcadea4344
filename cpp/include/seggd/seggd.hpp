// seggd-rt for C++17: seggd.h with owners, containers and exceptions. Header only; link the library.
//
//   seggd::Bundle bundle("cardiac.seggd");
//   seggd::Generator generator(bundle);
//   seggd::Request request(bundle, label_map);  // (H, W) bytes
//   request.seed = 7;
//   std::vector<float> image = generator.generate(request);  // (H, W, C) in [0, 1]
//
// Objects are moved, not copied; a generator may be shared by threads. Every failure is a seggd::Error, and what a
// callback throws comes out of the call that it was in.
#ifndef SEGGD_SEGGD_HPP
#define SEGGD_SEGGD_HPP

#include <seggd/seggd.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace seggd {

class Error : public std::runtime_error {
 public:
  Error(seggd_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  seggd_status status() const noexcept { return status_; }

 private:
  seggd_status status_;
};

namespace detail {

inline void require(seggd_status status) {
  if (status != SEGGD_OK) throw Error(status, seggd_last_error());
}

template <class Struct>
Struct sized() {
  Struct made{};
  made.struct_size = sizeof(Struct);
  return made;
}

template <class Handle, void (*Close)(Handle*)>
struct Closer {
  void operator()(Handle* handle) const noexcept { Close(handle); }
};

template <class Handle, void (*Close)(Handle*)>
using Owned = std::unique_ptr<Handle, Closer<Handle, Close>>;

inline const char* or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

inline std::vector<const char*> pointers(const std::optional<std::vector<std::string>>& names) {
  std::vector<const char*> all;
  if (names)
    for (const std::string& name : *names) all.push_back(name.c_str());
  if (names && names->empty()) all.reserve(1);  // a list that is there, of no names: its address is not null
  return all;
}

}  // namespace detail

struct Class {
  int id;
  std::string name;
  std::uint8_t color[3];
};

class Bundle {
 public:
  explicit Bundle(const std::string& path) {
    seggd_bundle* opened = nullptr;
    detail::require(seggd_bundle_open(path.c_str(), &opened));
    handle_.reset(opened);
  }

  // Hashes every file.
  void verify() const { detail::require(seggd_bundle_verify(get())); }

  // Its strings live as long as the bundle.
  seggd_bundle_info info() const {
    auto found = detail::sized<seggd_bundle_info>();
    detail::require(seggd_bundle_get_info(get(), &found));
    return found;
  }

  std::vector<Class> classes() const {
    std::vector<Class> all;
    for (int32_t index = 0; index < info().classes; ++index) {
      auto found = detail::sized<seggd_class>();
      detail::require(seggd_bundle_get_class(get(), index, &found));
      all.push_back({found.id, found.name, {found.color[0], found.color[1], found.color[2]}});
    }
    return all;
  }

  const seggd_bundle* get() const noexcept { return handle_.get(); }

 private:
  detail::Owned<seggd_bundle, seggd_bundle_close> handle_;
};

// Which engine draws, and where; "" is the default of seggd_load_options.
struct LoadOptions {
  std::string engine, precision, device;
  int threads = 0;
  std::string onnxruntime, openvino_plugin, tensorrt_rtx_plugin, tensorrt, tensorrt_plan;

  // Refers to this object's strings.
  seggd_load_options get() const {
    auto options = detail::sized<seggd_load_options>();
    options.engine = detail::or_null(engine);
    options.precision = detail::or_null(precision);
    options.device = detail::or_null(device);
    options.threads = threads;
    options.onnxruntime = detail::or_null(onnxruntime);
    options.openvino_plugin = detail::or_null(openvino_plugin);
    options.tensorrt_rtx_plugin = detail::or_null(tensorrt_rtx_plugin);
    options.tensorrt = detail::or_null(tensorrt);
    options.tensorrt_plan = detail::or_null(tensorrt_plan);
    return options;
  }
};

struct EngineInfo {
  std::string name, device, device_name, version, precision;
  bool usable;
  std::string reason;

  explicit EngineInfo(const seggd_engine_info& info)
      : name(info.name),
        device(info.device),
        device_name(info.device_name),
        version(info.version),
        precision(info.precision),
        usable(info.usable != 0),
        reason(info.reason) {}
};

// Every engine in the order of "auto", and whether it can run here.
inline std::vector<EngineInfo> engines(const LoadOptions& options = {}) {
  const seggd_load_options given = options.get();
  seggd_engines* listed = nullptr;
  detail::require(seggd_engines_list(&given, &listed));
  const detail::Owned<seggd_engines, seggd_engines_close> owner(listed);
  std::vector<EngineInfo> all;
  for (int32_t index = 0; index < seggd_engines_count(listed); ++index) {
    auto info = detail::sized<seggd_engine_info>();
    detail::require(seggd_engines_get(listed, index, &info));
    all.emplace_back(info);
  }
  return all;
}

// What to draw; what is left out is the default of seggd_request. Label maps and noise are the caller's memory.
struct Request {
  const std::uint8_t* label_maps = nullptr;  // (label_map_count, H, W)
  int label_map_count = 1;                   // 1 or count
  int height = 0, width = 0;
  int count = 1;
  std::optional<std::vector<std::uint64_t>> seeds;  // count of them; else `seed`
  std::uint64_t seed = 0;
  const float* noise = nullptr;  // (noise_count, C, H, W)
  int noise_count = 1;           // 1 or count
  std::string sampler, spacing;
  int steps = 0;
  double eta = 0;
  std::optional<std::vector<std::string>> keep, drop;
  std::function<bool(const seggd_step&)> on_step;                     // returns whether to go on
  std::function<void(seggd_warning, const std::string&)> on_warning;  // what it throws ends the call
  int preview_every = 0;
  bool resize_label_maps = false;  // label maps of another size, with a warning

  Request() = default;

  // One image of one label map, (H, W) of the bundle's size, which must outlive the request.
  Request(const Bundle& bundle, const std::vector<std::uint8_t>& label_map) : label_maps(label_map.data()) {
    const seggd_bundle_info info = bundle.info();
    height = info.height;
    width = info.width;
    if (label_map.size() != static_cast<std::size_t>(height) * static_cast<std::size_t>(width))
      throw Error(SEGGD_LABEL_MAP, "the label map has " + std::to_string(label_map.size()) + " pixels, not " +
                                       std::to_string(height) + "x" + std::to_string(width));
  }
  Request(const Bundle&, std::vector<std::uint8_t>&&) = delete;
};

struct Interpolation {
  const float* real = nullptr;  // (H, W, C) in [0, 1]
  std::vector<double> weights{0.5};
  double at = 0.6;
  std::optional<std::vector<std::string>> then_keep, then_drop;
};

class Generator {
 public:
  explicit Generator(const Bundle& bundle, const LoadOptions& options = {}) {
    const seggd_load_options given = options.get();
    seggd_generator* opened = nullptr;
    detail::require(seggd_generator_open(bundle.get(), &given, &opened));
    handle_.reset(opened);
    const seggd_bundle_info info = bundle.info();
    elements_ = static_cast<std::size_t>(info.channels) * static_cast<std::size_t>(info.height) *
                static_cast<std::size_t>(info.width);
  }

  // What really runs.
  EngineInfo engine() const {
    auto info = detail::sized<seggd_engine_info>();
    detail::require(seggd_generator_get_engine(handle_.get(), &info));
    return EngineInfo(info);
  }

  // (N, H, W, C): float in [0, 1], or std::uint8_t from 0 to 255.
  template <class Pixel = float>
  std::vector<Pixel> generate(const Request& request) const {
    std::vector<Pixel> images(elements_ * static_cast<std::size_t>(request.count < 1 ? 1 : request.count));
    generate(request, images.data(), images.size());
    return images;
  }

  // Into memory of the caller for `count` pixels.
  template <class Pixel>
  void generate(const Request& request, Pixel* images, std::size_t count) const {
    Call call(request);
    call.require(seggd_generate(handle_.get(), &call.request, images, count * sizeof(Pixel), type_of<Pixel>()));
  }

  // Into memory of the generator's GPU, where label maps and noise lie too; `stream` is a cudaStream_t.
  template <class Pixel>
  void generate_on_device(const Request& request, void* stream, Pixel* images, std::size_t count) const {
    Call call(request);
    call.require(seggd_generate_on_device(handle_.get(), &call.request, stream, images, count * sizeof(Pixel),
                                          type_of<Pixel>()));
  }

  // (weights, H, W, C), between a generation and a real image.
  template <class Pixel = float>
  std::vector<Pixel> interpolate(const Request& request, const Interpolation& how) const {
    if (how.weights.empty()) throw Error(SEGGD_OPTION, "weights is empty: give at least one weight");
    std::vector<Pixel> images(elements_ * how.weights.size());
    const std::vector<const char*> keep = detail::pointers(how.then_keep), drop = detail::pointers(how.then_drop);
    auto given = detail::sized<seggd_interpolation>();
    given.real = how.real;
    given.real_size_bytes = elements_ * sizeof(float);
    given.real_type = SEGGD_FLOAT32;
    given.weights = how.weights.data();
    given.weight_count = how.weights.size();
    given.at = how.at;
    given.then_keep = how.then_keep ? keep.data() : nullptr;
    given.then_keep_count = keep.size();
    given.then_drop = how.then_drop ? drop.data() : nullptr;
    given.then_drop_count = drop.size();
    Call call(request);
    call.require(seggd_interpolate(handle_.get(), &call.request, &given, images.data(), images.size() * sizeof(Pixel),
                                   type_of<Pixel>()));
    return images;
  }

 private:
  // A request as C has it; keeps what its callback throws until the call is back.
  struct Call {
    explicit Call(const Request& given)
        : keep(detail::pointers(given.keep)),
          drop(detail::pointers(given.drop)),
          on_step(given.on_step),
          on_warning(given.on_warning) {
      request.count = given.count;
      request.label_maps = given.label_maps;
      request.label_map_count = given.label_map_count;
      request.height = given.height;
      request.width = given.width;
      if (given.seeds && given.seeds->size() != static_cast<std::size_t>(given.count))
        throw Error(SEGGD_OPTION, "there are " + std::to_string(given.seeds->size()) + " seeds for " +
                                      std::to_string(given.count) + " images: give one seed an image");
      request.seeds = given.seeds ? given.seeds->data() : nullptr;
      request.seed = given.seed;
      request.noise = given.noise;
      request.noise_count = given.noise_count;
      request.sampler = detail::or_null(given.sampler);
      request.spacing = detail::or_null(given.spacing);
      request.steps = given.steps;
      request.eta = given.eta;
      request.keep = given.keep ? keep.data() : nullptr;
      request.keep_count = keep.size();
      request.drop = given.drop ? drop.data() : nullptr;
      request.drop_count = drop.size();
      request.preview_every = given.preview_every;
      request.resize_label_maps = given.resize_label_maps ? 1 : 0;
      if (on_step) request.on_step = &Call::told;
      if (on_warning) request.on_warning = &Call::warned;
      request.user = this;
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    static int32_t told(const seggd_step* step, void* user) noexcept {
      Call& call = *static_cast<Call*>(user);
      try {
        return call.on_step(*step) ? 0 : 1;
      } catch (...) {
        call.thrown = std::current_exception();
        return 1;
      }
    }

    static int32_t warned(seggd_warning kind, const char* message, void* user) noexcept {
      Call& call = *static_cast<Call*>(user);
      try {
        call.on_warning(kind, message);
        return 0;
      } catch (...) {
        call.thrown = std::current_exception();
        return 1;
      }
    }

    void require(seggd_status status) const {
      if (thrown) std::rethrow_exception(thrown);
      detail::require(status);
    }

    std::vector<const char*> keep, drop;
    const std::function<bool(const seggd_step&)>& on_step;
    const std::function<void(seggd_warning, const std::string&)>& on_warning;
    std::exception_ptr thrown;
    seggd_request request = detail::sized<seggd_request>();
  };

  template <class Pixel>
  static constexpr seggd_pixel_type type_of() {
    static_assert(std::is_same_v<Pixel, float> || std::is_same_v<Pixel, std::uint8_t>, "pixels are float or uint8");
    return std::is_same_v<Pixel, float> ? SEGGD_FLOAT32 : SEGGD_UINT8;
  }

  detail::Owned<seggd_generator, seggd_generator_close> handle_;
  std::size_t elements_ = 0;
};

}  // namespace seggd

#endif
