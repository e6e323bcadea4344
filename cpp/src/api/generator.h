// A bundle and a network turn label maps into images. Threads may share it; each call has a session of its own.
#pragma once

#include <seggd/seggd.h>

#include <memory>
#include <mutex>
#include <vector>

#include "bundle/bundle.h"
#include "core/session.h"

namespace seggd::core {

class Generator {
 public:
  Generator(std::shared_ptr<const Bundle> bundle, std::unique_ptr<Network> network);

  const EngineInfo& info() const { return network_->info(); }

  void generate(const seggd_request& request, Pixels out);

  // Label maps, noise and `out` lie in the GPU's memory, and are read and written after what `stream` was given before.
  void generate_on_device(const seggd_request& request, void* stream, Pixels out);

  void interpolate(const seggd_request& request, const seggd_interpolation& how, Pixels out);

 private:
  // A session that no other thread has; one that failed is not given back.
  std::unique_ptr<Session> take(int batch);
  void give_back(std::unique_ptr<Session> session);

  // Does a run from its first step on, tells the callback, and writes the images.
  void draw(const Run& run, const seggd_request& told, Pixels out);

  std::shared_ptr<const Bundle> bundle_;
  std::unique_ptr<Network> network_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Session>> idle_;  // that of the latest call last
};

}  // namespace seggd::core
