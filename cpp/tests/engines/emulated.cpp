#include "tests/engines/emulated.h"

#include <cstring>
#include <stdexcept>
#include <utility>

namespace emulated {

using seggd::core::Kernel;

void run_kernel(Kernel kernel, unsigned grid_x, unsigned grid_y, unsigned block, const void* state);

class EmulatedGraph : public seggd::core::DeviceGraph {
 public:
  EmulatedGraph(EmulatedStream& stream, std::vector<std::function<void()>> work)
      : stream_(stream), work_(std::move(work)) {}

  void launch() override {
    ++stream_.launches;
    for (const auto& piece : work_) stream_.enqueue(piece);
  }

 private:
  EmulatedStream& stream_;
  std::vector<std::function<void()>> work_;
};

Byte* EmulatedStream::allocate(size_t size) {
  if (recorded_) throw std::logic_error("memory may not be had while a graph is recorded");
  constexpr size_t kAlignment = 256;
  memory.emplace_back(size + kAlignment, Byte{0xFF});
  void* at = memory.back().data();
  size_t room = size + kAlignment;
  return static_cast<Byte*>(std::align(kAlignment, size, at, room));
}

void EmulatedStream::copy(void* to, const void* from, size_t size) {
  enqueue([=] { std::memcpy(to, from, size); });
}

void EmulatedStream::clear(void* at, size_t size) {
  enqueue([=] { std::memset(at, 0, size); });
}

void EmulatedStream::launch(Kernel kernel, unsigned grid_x, unsigned grid_y, unsigned block, const void* state) {
  enqueue([=] { run_kernel(kernel, grid_x, grid_y, block, state); });
}

std::unique_ptr<seggd::core::DeviceGraph> EmulatedStream::capture(const std::function<void()>& work) {
  std::vector<std::function<void()>> pieces;
  recorded_ = &pieces;
  work();
  recorded_ = nullptr;
  ++graphs;
  return std::make_unique<EmulatedGraph>(*this, std::move(pieces));
}

void EmulatedStream::wait_for(void* stream) {
  auto* other = static_cast<EmulatedStream*>(static_cast<Queue*>(stream));
  enqueue([other, place = other->queue_.size()] { other->run_to(place); });
}

void EmulatedStream::synchronize() {
  if (recorded_) throw std::logic_error("nothing may be waited for while a graph is recorded");
  if (entered == 0) throw std::logic_error("the device is not the thread's own");
  run_to(queue_.size());
}

void EmulatedStream::enqueue(std::function<void()> work) {
  if (recorded_) {
    recorded_->push_back(std::move(work));
  } else if (eager_) {
    work();
  } else {
    queue_.push_back(std::move(work));
  }
}

void EmulatedStream::run_to(size_t place) {
  while (done_ < place) queue_[done_++]();
}

EmulatedNetwork::EmulatedNetwork(std::shared_ptr<const seggd::core::HostNetwork> network, bool capturable)
    : EmulatedNetwork(std::move(network), capturable, std::make_shared<std::vector<EmulatedStream*>>()) {}

EmulatedNetwork::EmulatedNetwork(std::shared_ptr<const seggd::core::HostNetwork> network, bool capturable,
                                 std::shared_ptr<std::vector<EmulatedStream*>> streams)
    : CudaNetwork([streams](int) {
        auto made = std::make_unique<EmulatedStream>();
        streams->push_back(made.get());
        return made;
      }),
      network_(std::move(network)),
      capturable_(capturable),
      streams_(std::move(streams)),
      info_(network_->info()) {
  info_.device = "cuda:0";
}

std::function<void()> EmulatedNetwork::bind(const seggd::core::Buffers& buffers,
                                            seggd::core::DeviceStream& stream) const {
  auto call = network_->bind(buffers.batch, buffers.sample, buffers.timestep, buffers.out);
  return [call, queue = static_cast<Queue*>(stream.handle())] { queue->enqueue(call); };
}

}  // namespace emulated
