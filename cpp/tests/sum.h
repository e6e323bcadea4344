// A network whose answer is known, o = x + timestep, and a run of two steps on it: engines' sessions must agree.
#pragma once

#include <limits>
#include <utility>

#include "engines/host.h"

namespace sum {

// Any sizes; `more` is added to every output.
class Sum : public seggd::core::HostNetwork {
 public:
  explicit Sum(float more = 0, const seggd::core::NetworkShape& shape = {1, 1, 2, 3}) : shape_(shape), more_(more) {
    info_.engine = "sum";
  }
  const seggd::core::EngineInfo& info() const override { return info_; }
  const seggd::core::NetworkShape& shape() const override { return shape_; }
  std::function<void()> bind(int batch, float* sample, float* timestep, float* out) const override {
    return [=, elements = shape_.elements(), whole = static_cast<size_t>(shape_.channels()) * shape_.pixels(),
            more = more_] {
      for (size_t i = 0; i < static_cast<size_t>(batch); ++i)
        for (size_t k = 0; k < elements; ++k) out[i * elements + k] = sample[i * whole + k] + timestep[i] + more;
    };
  }

 private:
  seggd::core::EngineInfo info_;
  seggd::core::NetworkShape shape_;
  float more_;
};

inline seggd::core::Run two_steps() {
  using namespace seggd::core;
  static const std::vector<uint8_t> label_map{0, 1, 0, 1, 1, 0};
  static const std::vector<float> noise{1, 2, 3, 4, 5, 6};
  Run run;
  run.encoding = encode_table(MaskEncoding::kOneHot, 2, {1});
  run.label_maps = {label_map.data(), label_map.data()};
  run.noise = {noise.data(), noise.data()};
  run.seeds = {3, 4};
  const float inf = std::numeric_limits<float>::infinity();
  run.table.timesteps = {10, 5};
  run.table.rows = {{0, 1, inf, 0.5f, 0, 1, 0, 0, 0, 0, 0, 0}, {0, 1, 20, 0, 0, 1, 2, 0, 0, 0, 0, 0}};
  return run;
}

}  // namespace sum
