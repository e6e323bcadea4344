// Every engine checks itself against the golden run of the bundle before its first image:
// seggd_rt/engine/self_check.py.
//
// Nothing is remembered between processes, as Python does: a library writes no files of its own accord.
#pragma once

#include "bundle/bundle.h"
#include "core/session.h"

namespace seggd::core {

class SelfCheck {
 public:
  SelfCheck(const Manifest& manifest, const Golden& golden) : manifest_(manifest), golden_(golden) {}

  // Compares the network's output at the golden states, by a session of one image. SEGGD_ENGINE_CHECK where an error is
  // over the precision's limit.
  void require_states(Session& session, const EngineInfo& info) const;

  // Compares two equal images of one batch with each other, by a session of two: what a GPU's engine may do wrong where
  // one image is right. SEGGD_ENGINE_CHECK where they differ.
  void require_equal_rows(Session& pair, const EngineInfo& info) const;

  // Why "auto" passes a lower precision over, or "": the golden image, and the states.
  std::string flaw(Session& session, const EngineInfo& info) const;

 private:
  std::vector<float> mask() const;  // (mask channels, H, W)
  double image_psnr_db(Session& session) const;

  const Manifest& manifest_;
  const Golden& golden_;
};

}  // namespace seggd::core
