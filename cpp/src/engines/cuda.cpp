#include "engines/cuda.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "engines/devices.h"

namespace seggd::core {
namespace {

constexpr unsigned kBlock = 128;  // threads of a block; each has four elements
constexpr size_t kAlignment = 256;
constexpr size_t kMaxGraphs = 4;                // kept, one for each number of steps
constexpr size_t kCounters = 2 * sizeof(Word);  // step and finished, which lie before the images' status

size_t padded(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

// An array of the inputs: pieces of equal size, which lie one behind the other.
struct CudaSession::Part {
  size_t each;
  std::vector<const void*> pieces;
  bool on_device;
  std::function<void(const Byte*)> point;  // tells the state where the array lies

  template <class Number>
  Part(const Number*& member, size_t count, std::vector<const void*> from, bool device = false)
      : each(count * sizeof(Number)),
        pieces(std::move(from)),
        on_device(device),
        point([&member](const Byte* at) { member = reinterpret_cast<const Number*>(at); }) {}

  size_t size() const { return padded(each * pieces.size()); }
};

std::unique_ptr<Session> CudaNetwork::session(int batch) const {
  return std::make_unique<CudaSession>(*this, make_stream_(ordinal(info().device)), batch);
}

CudaSession::CudaSession(const CudaNetwork& network, std::unique_ptr<DeviceStream> stream, int batch)
    : info_(network.info()),
      shape_(network.shape()),
      batch_(batch),
      capturable_(network.capturable()),
      stream_(std::move(stream)) {
  const Active active(*stream_);
  const size_t images = static_cast<size_t>(batch), elements = shape_.elements();
  const size_t channels = static_cast<size_t>(shape_.channels());
  buffers_ = {batch, floats(images * channels * shape_.pixels()), floats(images), floats(images * elements)};
  x0_ = floats(images * elements);
  head_ = padded(kCounters + images * sizeof(Word));
  const size_t size = head_ + images * elements * sizeof(float);
  result_ = stream_->allocate(size), host_result_ = stream_->pinned(size);
  grid_ = static_cast<unsigned>((elements + 4 * kBlock - 1) / (4 * kBlock));
  call_ = network.bind(buffers_, *stream_);
  stream_->clear(result_, head_);
}

CudaSession::~CudaSession() {
  const Active active(*stream_);
  stream_->drain();
  const std::lock_guard<std::recursive_mutex> alone(allocating());
  graphs_.clear();
  call_ = nullptr;
}

void CudaSession::run(const Run& run, Pixels out, const OnStep& on_step) {
  const Active active(*stream_);
  upload(run, out.type);
  if (!on_step) {
    launch(true, run.table.steps() - run.first);
  } else {
    begin();
    for (int index = run.first; index < run.table.steps(); ++index) {
      launch(false, 1);
      stream_->synchronize();
      on_step(index);
    }
    stream_->launch(Kernel::kFinish, grid_, static_cast<unsigned>(batch_), kBlock, inputs_);
  }
  if (run.on_device) {
    stream_->copy(out.data, result_ + head_, out.size_bytes);
    collect(0);
  } else {
    std::memcpy(out.data, collect(out.size_bytes), out.size_bytes);
  }
}

Latents CudaSession::run_to(const Run& run, int step) {
  const Active active(*stream_);
  upload(run, SEGGD_FLOAT32);
  begin();
  if (step > run.first) launch(false, step - run.first);
  return {buffers_.sample, x0_, stream_->handle()};
}

// Previews are floats, whatever the result is: so not by the result's kernel.
void CudaSession::preview(float* out) {
  const Active active(*stream_);
  const size_t elements = shape_.elements(), size = static_cast<size_t>(batch_) * elements * sizeof(float);
  stream_->download(host_result_, x0_, size);
  stream_->synchronize();
  const float* x0 = reinterpret_cast<const float*>(host_result_);
  for (size_t first = 0; first < static_cast<size_t>(batch_) * elements; first += elements)
    write_pixels(x0 + first, static_cast<size_t>(shape_.image_channels), shape_.pixels(), out + first);
}

std::vector<float> CudaSession::evaluate(const float* x, const float* mask, float timestep) {
  const Active active(*stream_);
  stream_->synchronize();
  const size_t images = static_cast<size_t>(batch_), elements = shape_.elements();
  const size_t whole = static_cast<size_t>(shape_.channels()) * shape_.pixels(), rest = whole - elements;
  const size_t times = padded(images * whole * sizeof(float)), end = times + padded(images * sizeof(float));
  std::vector<float> o(images * elements);
  reserve(end + o.size() * sizeof(float));
  float *sample = reinterpret_cast<float*>(host_inputs_), *time = reinterpret_cast<float*>(host_inputs_ + times);
  for (size_t i = 0; i < images; ++i) {
    std::copy_n(x + i * elements, elements, sample + i * whole);
    std::copy_n(mask + i * rest, rest, sample + i * whole + elements);
  }
  std::fill_n(time, images, timestep);
  stream_->upload(buffers_.sample, host_inputs_, images * whole * sizeof(float));
  stream_->upload(buffers_.timestep, host_inputs_ + times, images * sizeof(float));
  call_();
  called_ = true;
  stream_->download(host_inputs_ + end, buffers_.out, o.size() * sizeof(float));
  stream_->synchronize();
  std::memcpy(o.data(), host_inputs_ + end, o.size() * sizeof(float));
  return o;
}

void CudaSession::begin() { stream_->launch(Kernel::kBegin, grid_, static_cast<unsigned>(batch_), kBlock, inputs_); }

// Steps, with beginning and end if it is to be the whole loop: as one graph where that can be.
void CudaSession::launch(bool whole, int steps) {
  if (capturable_) {
    graph(whole, steps).launch();
  } else {
    loop(whole, steps);
  }
}

void CudaSession::loop(bool whole, int steps) {
  const unsigned images = static_cast<unsigned>(batch_);
  if (whole) begin();
  for (int step = 0; step < steps; ++step) {
    call_();
    stream_->launch(Kernel::kStep, grid_, images, kBlock, inputs_);
  }
  if (whole) stream_->launch(Kernel::kFinish, grid_, images, kBlock, inputs_);
}

DeviceGraph& CudaSession::graph(bool whole, int steps) {
  const std::pair key(whole, steps);
  const auto known = std::find_if(graphs_.begin(), graphs_.end(), [&](const auto& one) { return one.key == key; });
  if (known != graphs_.end()) {
    std::rotate(known, known + 1, graphs_.end());
    return *graphs_.back().graph;
  }
  if (!called_) {
    // What an engine does at its first call cannot be captured; nor may it see a timestep that is none.
    begin();
    call_();
    stream_->synchronize();
    called_ = true;
  }
  if (graphs_.size() >= kMaxGraphs) graphs_.erase(graphs_.begin());
  graphs_.push_back({key, stream_->capture([&] { loop(whole, steps); })});
  return *graphs_.back().graph;
}

// Lays out what varies from image to image behind the state that points to it, and uploads it in one copy.
void CudaSession::upload(const Run& run, seggd_pixel_type type) {
  stream_->synchronize();  // what went before may still be read from the host's block
  const size_t images = static_cast<size_t>(batch_), pixels = shape_.pixels(), elements = shape_.elements();
  const std::vector<float> timesteps(run.table.timesteps.begin(), run.table.timesteps.end());
  const auto same = [images](const auto* one) { return std::vector<const void*>(images, one); };
  Sampling state{};
  std::vector<Part> parts;
  parts.emplace_back(state.label_maps, pixels, std::vector<const void*>(run.label_maps.begin(), run.label_maps.end()),
                     run.on_device);
  parts.emplace_back(state.encode_tables, run.encoding.values.size(), same(run.encoding.values.data()));
  static_assert(sizeof(LongWord) == sizeof(uint64_t));
  parts.emplace_back(state.seeds, images, std::vector<const void*>{run.seeds.data()});
  parts.emplace_back(state.rows, run.table.rows.size(), same(run.table.rows.data()));
  parts.emplace_back(state.timesteps, timesteps.size(), std::vector<const void*>{timesteps.data()});
  if (run.after) {
    parts.emplace_back(state.start, elements, same(run.after->x), true);
    parts.emplace_back(state.last_x0, elements, same(run.after->x0), true);
    stream_->wait_for(run.after->stream);
  } else if (!run.noise.empty()) {
    parts.emplace_back(state.start, elements, std::vector<const void*>(run.noise.begin(), run.noise.end()),
                       run.on_device);
  }
  if (!run.entries.empty()) {
    parts.emplace_back(state.entries, images, std::vector<const void*>{run.entries.data()});
    parts.emplace_back(state.real, elements, same(run.real));
  }
  if (run.on_device) stream_->wait_for(run.stream);

  size_t size = padded(sizeof state);
  for (const Part& part : parts) size += part.size();
  reserve(size);
  state.images = batch_, state.lanes = 1;
  state.channels = shape_.image_channels, state.mask_channels = shape_.mask_channels;
  state.pixels = static_cast<int>(pixels), state.labels = run.encoding.labels;
  state.steps = run.table.steps(), state.first = run.first, state.bytes = type == SEGGD_UINT8;
  state.sample = buffers_.sample, state.timestep = buffers_.timestep, state.out = buffers_.out;
  state.x0 = x0_, state.result = result_ + head_;
  state.step = reinterpret_cast<Word*>(result_), state.finished = state.step + 1, state.status = state.step + 2;
  size_t offset = padded(sizeof state);
  for (const Part& part : parts) {
    part.point(inputs_ + offset);
    size_t at = offset;
    for (const void* piece : part.pieces) {
      if (!part.on_device) std::memcpy(host_inputs_ + at, piece, part.each);
      at += part.each;
    }
    offset += part.size();
  }
  std::memcpy(host_inputs_, &state, sizeof state);
  stream_->upload(inputs_, host_inputs_, size);
  offset = padded(sizeof state);
  for (const Part& part : parts) {
    for (size_t i = 0; part.on_device && i < part.pieces.size(); ++i)
      stream_->copy(inputs_ + offset + i * part.each, part.pieces[i], part.each);
    offset += part.size();
  }
}

// Makes the block of inputs at least so large; graphs hold its address.
void CudaSession::reserve(size_t size) {
  if (size <= room_) return;
  stream_->synchronize();
  graphs_.clear();
  inputs_ = stream_->allocate(2 * size), host_inputs_ = stream_->pinned(2 * size);
  room_ = 2 * size;
}

// Downloads status and the result's first bytes, waits, and checks.
const Byte* CudaSession::collect(size_t size) {
  stream_->download(host_result_, result_, head_ + size);
  stream_->clear(result_ + kCounters, head_ - kCounters);
  stream_->synchronize();
  const Word* status = reinterpret_cast<const Word*>(host_result_ + kCounters);
  const auto any = [&](Word flaw) {
    return std::any_of(status, status + batch_, [flaw](Word found) { return (found & flaw) != 0; });
  };
  if (any(kLabelOutside))
    throw Error(SEGGD_LABEL_MAP, "a label map in the GPU's memory holds a label outside the classes");
  if (any(kNotFinite)) throw not_finite(info_);
  return host_result_ + head_;
}

}  // namespace seggd::core
