// A GPU in a few lines: the real kernels compiled for the host, on streams that run late:
// tests/engines/cuda/emulated.py.
//
// Enqueued work runs when somebody waits for it and not before, so code that forgets to wait reads garbage. New memory
// is NaN, so code that reads what nothing wrote is found too.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engines/cuda.h"
#include "engines/host.h"

namespace emulated {

using seggd::Byte;

// What a stream's handle points to.
class Queue {
 public:
  virtual void enqueue(std::function<void()> work) = 0;

 protected:
  ~Queue() = default;
};

class EmulatedStream final : public seggd::core::DeviceStream, public Queue {
 public:
  // An eager stream runs work at once, as for calls that know nothing of queues.
  explicit EmulatedStream(bool eager = false) : eager_(eager) {}
  ~EmulatedStream() override { drain(); }

  void* handle() const override { return const_cast<Queue*>(static_cast<const Queue*>(this)); }
  int enter() noexcept override { return entered++; }
  void leave(int before) noexcept override { entered = before; }
  Byte* allocate(size_t size) override;
  Byte* pinned(size_t size) override { return allocate(size); }
  void upload(void* to, const Byte* pinned, size_t size) override { copy(to, pinned, size); }
  void download(Byte* pinned, const void* from, size_t size) override { copy(pinned, from, size); }
  void copy(void* to, const void* from, size_t size) override;
  void clear(void* at, size_t size) override;
  void launch(seggd::core::Kernel kernel, unsigned grid_x, unsigned grid_y, unsigned block, const void* state) override;
  std::unique_ptr<seggd::core::DeviceGraph> capture(const std::function<void()>& work) override;
  void wait_for(void* stream) override;
  void synchronize() override;
  void drain() noexcept override { run_to(queue_.size()); }

  void enqueue(std::function<void()> work) override;
  void run_to(size_t place);
  bool idle() const { return done_ == queue_.size(); }

  int entered = 0, graphs = 0, launches = 0;  // launches of graphs
  std::vector<std::vector<Byte>> memory;

 private:
  friend class EmulatedGraph;
  bool eager_;
  std::vector<std::function<void()>> queue_;
  size_t done_ = 0;
  std::vector<std::function<void()>>* recorded_ = nullptr;
};

// A network in host memory, as one on a GPU: its calls are enqueued.
class EmulatedNetwork : public seggd::core::CudaNetwork {
 public:
  explicit EmulatedNetwork(std::shared_ptr<const seggd::core::HostNetwork> network, bool capturable = true);

  const seggd::core::EngineInfo& info() const override { return info_; }
  const seggd::core::NetworkShape& shape() const override { return network_->shape(); }
  bool capturable() const override { return capturable_; }
  std::function<void()> bind(const seggd::core::Buffers& buffers, seggd::core::DeviceStream& stream) const override;

  EmulatedStream& last_stream() const { return *streams_->back(); }  // as long as its session lives

 private:
  EmulatedNetwork(std::shared_ptr<const seggd::core::HostNetwork> network, bool capturable,
                  std::shared_ptr<std::vector<EmulatedStream*>> streams);

  std::shared_ptr<const seggd::core::HostNetwork> network_;
  bool capturable_;
  std::shared_ptr<std::vector<EmulatedStream*>> streams_;
  seggd::core::EngineInfo info_;
};

}  // namespace emulated
