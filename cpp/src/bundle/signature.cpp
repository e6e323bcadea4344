#include "bundle/signature.h"

#include "core/error.h"
#include "core/wording.h"

namespace seggd::core {
namespace {

std::string listed(const Ports& ports) {
  std::vector<std::string> all;
  for (const auto& [name, axes] : ports) {
    std::vector<std::string> sizes;
    for (const int64_t axis : axes) sizes.push_back(axis < 0 ? "N" : std::to_string(axis));
    all.push_back(name + " (" + joined(sizes) + ")");
  }
  return joined(all);
}

bool fits(const Axes& found, const Axes& wanted) {
  if (found.size() != wanted.size()) return false;
  for (size_t i = 0; i < found.size(); ++i)
    if (found[i] >= 0 && found[i] != wanted[i]) return false;
  return true;
}

}  // namespace

void check_signature(const Ports& found, const NetworkShape& shape, const std::string& graph) {
  // -1 of a batch fits only what is free.
  const Ports wanted{{"sample", {-1, shape.channels(), shape.height, shape.width}},
                     {"timestep", {-1}},
                     {"out", {-1, shape.image_channels, shape.height, shape.width}}};
  bool same = found.size() == wanted.size();
  for (const auto& [name, axes] : wanted) {
    const auto port = found.find(name);
    same = same && port != found.end() && fits(port->second, axes);
  }
  if (!same)
    throw Error(SEGGD_ENGINE, graph + " is not the network of this manifest: it has " + listed(found) +
                                  ", the manifest says " + listed(wanted) + "; export the bundle again");
}

}  // namespace seggd::core
