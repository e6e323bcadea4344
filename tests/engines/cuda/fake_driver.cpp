// A CUDA driver for a machine without a GPU: libcuda.so.1 under NVIDIA's own cuda.core, which is not to know.
//
// Device memory is the host's, kernels are this project's, compiled for the host (emulate.cpp). Enqueued work is done when
// somebody waits for it, and not before; new memory is NaN and given back memory is too; a copy or a clearing outside live
// memory, a call that a recording forbids and a handle that nobody made are errors, as on a GPU. What is not here says
// CUDA_ERROR_NOT_SUPPORTED, and its name on stderr.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "emulate.cpp"

namespace {

enum Status {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
};

using Address = std::uintptr_t;
using Work = std::function<Status()>;

constexpr int kDevices = 2;
constexpr std::size_t kMemory = std::size_t{2} << 30;
constexpr int kDriverVersion = 13000;
constexpr std::size_t kAlignment = 256;
constexpr int kGlobal = 0, kThreadLocal = 1;

struct Context {
  int device;
};

// What lives as long as somebody holds it, and whose end is told.
struct UserObject {
  void* of;
  void (*end)(void*);
  unsigned count;
};

void release(UserObject* object, unsigned count);

// What was recorded: in order, as one stream records it.
struct Graph {
  std::vector<Work> nodes;
  std::map<UserObject*, unsigned> held;

  Graph() = default;
  Graph(const Graph& other) : nodes(other.nodes), held(other.held) {
    for (const auto& [object, count] : held) object->count += count;
  }
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    for (const auto& [object, count] : held) release(object, count);
  }
};

struct GraphExec {
  Graph graph;
};

struct Stream {
  Context* context = nullptr;
  unsigned flags = 0;
  int priority = 0;
  std::vector<Work> queue;
  std::size_t done = 0;
  Graph* recording = nullptr;
  bool recording_own = false;  // else into a graph that somebody else made
  bool recording_broken = false;
  int mode = 0;
  const void* recorder = nullptr;  // the thread that records
};

struct Event {
  Context* context = nullptr;
  unsigned flags = 0;
  Stream* stream = nullptr;
  std::size_t place = 0;
};

struct Pool {
  int device;
  std::set<Address> lent;
};

struct Kernel {
  std::string name;
  bool loaded = false;
};

struct Library {
  std::map<std::string, std::unique_ptr<Kernel>> kernels;
};

struct Allocation {
  std::size_t size;
  int device;  // -1: pinned memory of the host
  std::unique_ptr<std::uint8_t[]> memory;
};

std::recursive_mutex guard;
std::array<Context, kDevices> contexts;
std::array<std::size_t, kDevices> used;
std::map<Address, Allocation> allocations;
struct Condition {
  unsigned value, initial;
};
std::map<std::uint64_t, Condition> conditions;
std::set<void*> streams, events, graphs, execs, user_objects, pools, libraries, kernels;
Stream default_streams[kDevices];
bool started = false;
Status broken = kSuccess;  // sticky: after a kernel's or a copy's failure a context does nothing more
thread_local std::vector<Context*> stack(1, nullptr);  // of a thread's contexts; the last is current
thread_local const char here = 0;  // its address names a thread

using Lock = std::lock_guard<std::recursive_mutex>;

Context*& current() { return stack.back(); }

template <typename T>
T* known(std::set<void*>& all, void* handle) {
  return all.count(handle) ? static_cast<T*>(handle) : nullptr;
}

Stream* stream_of(void* handle) {
  const auto value = reinterpret_cast<Address>(handle);
  if (value <= 2) return current() ? &default_streams[current()->device] : nullptr;  // null, legacy, and a thread's own
  return known<Stream>(streams, handle);
}

// Whether bytes lie within one allocation.
bool live(Address address, std::size_t size) {
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return false;
  const auto& [start, allocation] = *--next;
  return address + size <= start + allocation.size;
}

Status allocate(std::size_t size, int device, Address& address) {
  if (size == 0) return kInvalidValue;
  if (size > kMemory || (device >= 0 && used[device] + size > kMemory)) return kOutOfMemory;
  Allocation made{size, device, std::make_unique<std::uint8_t[]>(size + kAlignment)};
  std::memset(made.memory.get(), 0xFF, size + kAlignment);
  address = (reinterpret_cast<Address>(made.memory.get()) + kAlignment - 1) / kAlignment * kAlignment;
  if (device >= 0) used[device] += size;
  allocations.emplace(address, std::move(made));
  return kSuccess;
}

Status give_back(Address address) {
  const auto found = allocations.find(address);
  if (found == allocations.end()) return kInvalidValue;
  if (found->second.device >= 0) used[found->second.device] -= found->second.size;
  allocations.erase(found);
  return kSuccess;
}

void release(UserObject* object, unsigned count) {
  if (object->count -= count) return;
  user_objects.erase(object);
  object->end(object->of);
  delete object;
}

// Does what was enqueued before a place.
Status run_to(Stream& stream, std::size_t place) {
  while (stream.done < place) {
    const Work work = stream.queue[stream.done++];
    const Status status = broken ? broken : work();
    if (status) broken = status;
  }
  return broken;
}

Status run_all() {
  for (void* each : streams) {
    auto& stream = *static_cast<Stream*>(each);
    if (!stream.recording) run_to(stream, stream.queue.size());
  }
  for (auto& stream : default_streams) run_to(stream, stream.queue.size());
  return broken;
}

// What a recording forbids: calls that would wait for it, or have a place in no stream.
Status refused_while_recording() {
  for (void* each : streams) {
    auto& stream = *static_cast<Stream*>(each);
    if (!stream.recording || stream.mode > kThreadLocal) continue;
    if (stream.mode == kThreadLocal && stream.recorder != &here) continue;
    stream.recording_broken = true;
    return kCaptureUnsupported;
  }
  return kSuccess;
}

Status enqueue(void* handle, Work work) {
  Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  if (!current()) return kInvalidContext;
  if (broken) return broken;
  if (stream->recording) {
    if (stream->recording_broken) return kCaptureInvalidated;
    stream->recording->nodes.push_back(std::move(work));
  } else {
    stream->queue.push_back(std::move(work));
  }
  return kSuccess;
}

// `checked` names what must be device memory; other memory of the host is anybody's.
Status enqueue_copy(void* handle, Address to, Address from, std::size_t size, std::initializer_list<Address> checked) {
  return enqueue(handle, [=, places = std::vector<Address>(checked)] {
    for (const Address place : places)
      if (!live(place, size)) return kIllegalAddress;
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), size);
    return kSuccess;
  });
}

void (*function_of(const std::string& name))(const seggd::Sampling*) {
  if (name == "seggd_begin") return seggd_begin;
  if (name == "seggd_step") return seggd_step;
  if (name == "seggd_finish") return seggd_finish;
  if (name == "seggd_preview") return seggd_preview;
  if (name == "seggd_more") return seggd_preview;  // see cuLaunchKernelEx
  return nullptr;
}

// What cuda.core asks for and gets. A macro, so that names stand once.
#define DRIVER(name, ...) Status name(__VA_ARGS__)

DRIVER(cuInit, unsigned) {
  if (std::getenv("FAKE_DRIVER_NO_DEVICE")) return kNoDevice;
  started = true;
  return kSuccess;
}

DRIVER(cuDriverGetVersion, int* version) {
  *version = kDriverVersion;
  return kSuccess;
}

DRIVER(cuGetErrorName, int status, const char** name) {
  static const std::map<int, const char*> names = {
      {0, "CUDA_SUCCESS"},
      {1, "CUDA_ERROR_INVALID_VALUE"},
      {2, "CUDA_ERROR_OUT_OF_MEMORY"},
      {3, "CUDA_ERROR_NOT_INITIALIZED"},
      {101, "CUDA_ERROR_INVALID_DEVICE"},
      {201, "CUDA_ERROR_INVALID_CONTEXT"},
      {400, "CUDA_ERROR_INVALID_HANDLE"},
      {500, "CUDA_ERROR_NOT_FOUND"},
      {600, "CUDA_ERROR_NOT_READY"},
      {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {801, "CUDA_ERROR_NOT_SUPPORTED"},
      {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
      {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
  };
  const auto found = names.find(status);
  *name = found == names.end() ? "CUDA_ERROR_UNKNOWN" : found->second;
  return kSuccess;
}

DRIVER(cuGetErrorString, int status, const char** text) { return cuGetErrorName(status, text); }

DRIVER(cuDeviceGetCount, int* count) {
  *count = kDevices;
  return kSuccess;
}

DRIVER(cuDeviceGet, int* device, int ordinal) {
  *device = ordinal;
  return ordinal >= 0 && ordinal < kDevices ? kSuccess : kInvalidDevice;
}

DRIVER(cuDeviceGetName, char* name, int size, int) {
  std::snprintf(name, size, "Emulated GPU");
  return kSuccess;
}

DRIVER(cuDeviceTotalMem, std::size_t* size, int) {
  *size = kMemory;
  return kSuccess;
}

DRIVER(cuDeviceGetAttribute, int* value, int attribute, int) {
  constexpr int kMajor = 75, kMinor = 76, kHandleTypes = 119;
  *value = attribute == kMajor ? 9 : attribute == kMinor || attribute == kHandleTypes ? 0 : 1;
  return kSuccess;
}

DRIVER(cuDeviceGetUuid, void* uuid, int device) {
  std::memset(uuid, device, 16);
  return kSuccess;
}

DRIVER(cuDevicePrimaryCtxRetain, void** context, int device) {
  if (const char* only = std::getenv("FAKE_DRIVER_ONLY"); only && std::atoi(only) != device) return kInvalidDevice;
  contexts[device].device = device;
  *context = &contexts[device];
  return kSuccess;
}

DRIVER(cuDevicePrimaryCtxRelease, int) { return kSuccess; }

DRIVER(cuCtxCreate, void** context, void*, unsigned, int device) {
  current() = new Context{device};
  *context = current();
  return kSuccess;
}

DRIVER(cuCtxDestroy, void* context) {
  if (current() == context) current() = nullptr;
  delete static_cast<Context*>(context);
  return kSuccess;
}

DRIVER(cuCtxSetCurrent, void* context) {
  current() = static_cast<Context*>(context);
  return kSuccess;
}

DRIVER(cuCtxGetCurrent, void** context) {
  *context = current();
  return kSuccess;
}

DRIVER(cuCtxPushCurrent, void* context) {
  stack.push_back(static_cast<Context*>(context));
  return kSuccess;
}

DRIVER(cuCtxPopCurrent, void** context) {
  if (context) *context = current();
  if (stack.size() == 1) {
    if (!current()) return kInvalidContext;
    current() = nullptr;
  } else {
    stack.pop_back();
  }
  return kSuccess;
}

DRIVER(cuCtxGetDevice, int* device) {
  if (!current()) return kInvalidContext;
  *device = current()->device;
  return kSuccess;
}

DRIVER(cuCtxGetId, void* context, unsigned long long* id) {
  *id = context ? 1 + static_cast<Context*>(context)->device : 0;
  return kSuccess;
}

DRIVER(cuCtxGetStreamPriorityRange, int* least, int* greatest) {
  *least = 0, *greatest = -5;
  return kSuccess;
}

// Streams and events

DRIVER(cuStreamCreateWithPriority, void** handle, unsigned flags, int priority) {
  if (!current()) return kInvalidContext;
  auto* made = new Stream;
  made->context = current(), made->flags = flags, made->priority = priority;
  streams.insert(*handle = made);
  return kSuccess;
}

DRIVER(cuStreamDestroy, void* handle) {
  auto* stream = known<Stream>(streams, handle);
  if (!stream) return kInvalidHandle;
  // What is enqueued is done all the same, and later: events and other streams may wait for it. So it is not deleted.
  run_to(*stream, stream->queue.size());
  streams.erase(handle);
  return kSuccess;
}

DRIVER(cuStreamGetCtx, void* handle, void** context) {
  const Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  *context = stream->context ? stream->context : current();
  return kSuccess;
}

DRIVER(cuStreamGetDevice, void* handle, int* device) {
  const Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  *device = (stream->context ? stream->context : current())->device;
  return kSuccess;
}

DRIVER(cuStreamGetFlags, void* handle, unsigned* flags) {
  const Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  *flags = stream->flags;
  return kSuccess;
}

DRIVER(cuStreamGetPriority, void* handle, int* priority) {
  const Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  *priority = stream->priority;
  return kSuccess;
}

DRIVER(cuStreamSynchronize, void* handle) {
  Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  if (stream->recording) {
    stream->recording_broken = true;
    return kCaptureUnsupported;
  }
  return run_to(*stream, stream->queue.size());
}

DRIVER(cuStreamQuery, void* handle) {
  Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  return stream->done < stream->queue.size() ? kNotReady : broken;
}

DRIVER(cuCtxSynchronize) {
  const Status refused = refused_while_recording();
  return refused ? refused : run_all();
}

DRIVER(cuEventCreate, void** handle, unsigned flags) {
  if (!current()) return kInvalidContext;
  auto* made = new Event;
  made->context = current(), made->flags = flags;
  events.insert(*handle = made);
  return kSuccess;
}

DRIVER(cuEventDestroy, void* handle) {
  if (!events.erase(handle)) return kInvalidHandle;
  delete static_cast<Event*>(handle);
  return kSuccess;
}

DRIVER(cuEventRecord, void* handle, void* on) {
  auto* event = known<Event>(events, handle);
  Stream* stream = stream_of(on);
  if (!event || !stream) return kInvalidHandle;
  if (stream->recording) {
    std::fprintf(stderr, "fake driver: an event recorded within a recording\n");
    return kNotSupported;
  }
  event->stream = stream, event->place = stream->queue.size();
  return kSuccess;
}

DRIVER(cuEventSynchronize, void* handle) {
  auto* event = known<Event>(events, handle);
  if (!event) return kInvalidHandle;
  const Status refused = refused_while_recording();
  if (refused) return refused;
  return event->stream ? run_to(*event->stream, event->place) : kSuccess;
}

DRIVER(cuEventQuery, void* handle) {
  auto* event = known<Event>(events, handle);
  if (!event) return kInvalidHandle;
  return event->stream && event->stream->done < event->place ? kNotReady : kSuccess;
}

DRIVER(cuStreamWaitEvent, void* on, void* handle, unsigned) {
  auto* event = known<Event>(events, handle);
  if (!event) return kInvalidHandle;
  Stream* stream = event->stream;
  const std::size_t place = event->place;
  return enqueue(on, [=] { return stream ? run_to(*stream, place) : kSuccess; });
}

// Memory

DRIVER(cuMemGetInfo, std::size_t* free, std::size_t* total) {
  if (!current()) return kInvalidContext;
  *total = kMemory, *free = kMemory - used[current()->device];
  return kSuccess;
}

DRIVER(cuMemAlloc, Address* address, std::size_t size) {
  if (!current()) return kInvalidContext;
  const Status refused = refused_while_recording();
  return refused ? refused : allocate(size, current()->device, *address);
}

DRIVER(cuMemFree, Address address) {
  const Status refused = refused_while_recording();
  if (refused) return refused;
  run_all();
  return give_back(address);
}

DRIVER(cuMemAllocHost, void** address, std::size_t size) {
  const Status refused = refused_while_recording();
  if (refused) return refused;
  Address at = 0;
  const Status status = allocate(size, -1, at);
  *address = reinterpret_cast<void*>(at);
  return status;
}

DRIVER(cuMemFreeHost, void* address) {
  const Status refused = refused_while_recording();
  if (refused) return refused;
  run_all();
  return give_back(reinterpret_cast<Address>(address));
}

struct PoolProperties {
  int type, handles, location_type, location_id;
};

DRIVER(cuMemPoolCreate, void** handle, const PoolProperties* properties) {
  pools.insert(*handle = new Pool{properties->location_id, {}});
  return kSuccess;
}

DRIVER(cuMemPoolDestroy, void* handle) {
  auto* pool = known<Pool>(pools, handle);
  if (!pool) return kInvalidHandle;
  pools.erase(handle);
  return kSuccess;
}

DRIVER(cuMemPoolSetAttribute, void* handle, int, void*) { return pools.count(handle) ? kSuccess : kInvalidHandle; }

DRIVER(cuMemPoolGetAttribute, void* handle, int, void* value) {
  if (!pools.count(handle)) return kInvalidHandle;
  std::memset(value, 0, 8);
  return kSuccess;
}

DRIVER(cuMemPoolSetAccess, void* handle, const void*, std::size_t) { return pools.count(handle) ? kSuccess : kInvalidHandle; }

DRIVER(cuMemAllocFromPoolAsync, Address* address, std::size_t size, void* handle, void* on) {
  auto* pool = known<Pool>(pools, handle);
  const Stream* stream = stream_of(on);
  if (!pool || !stream) return kInvalidHandle;
  if (stream->recording) {
    std::fprintf(stderr, "fake driver: memory allocated within a recording\n");
    return kNotSupported;
  }
  return allocate(size, pool->device, *address);
}

DRIVER(cuMemFreeAsync, Address address, void* on) {
  return enqueue(on, [=] { return give_back(address); });
}

DRIVER(cuPointerGetAttribute, void* value, int attribute, Address address) {
  constexpr int kContext = 1, kMemoryType = 2, kDevicePointer = 3, kHostPointer = 4, kManaged = 8, kOrdinal = 9;
  if (!live(address, 1)) return kInvalidValue;
  const int device = std::prev(allocations.upper_bound(address))->second.device;
  switch (attribute) {
    case kContext: *static_cast<void**>(value) = device < 0 ? nullptr : &contexts[device]; break;
    case kMemoryType: *static_cast<unsigned*>(value) = device < 0 ? 1 : 2; break;
    case kDevicePointer:
    case kHostPointer: *static_cast<Address*>(value) = address; break;
    case kManaged: *static_cast<unsigned*>(value) = 0; break;
    case kOrdinal: *static_cast<int*>(value) = device; break;
    default: std::fprintf(stderr, "fake driver: attribute %d of a pointer\n", attribute); return kNotSupported;
  }
  return kSuccess;
}

DRIVER(cuPointerGetAttributes, unsigned count, const int* attributes, void** values, Address address) {
  for (unsigned i = 0; i < count; ++i) {
    if (!live(address, 1)) {
      std::memset(values[i], 0, 4);
      continue;
    }
    if (const Status status = cuPointerGetAttribute(values[i], attributes[i], address)) return status;
  }
  return kSuccess;
}

// A copy that waits, on the default stream so to say; `checked` must be device memory.
Status copy_now(void* to, const void* from, std::size_t size, Address checked) {
  if (const Status refused = refused_while_recording()) return refused;
  run_all();
  if (!live(checked, size)) return broken = kIllegalAddress;
  std::memcpy(to, from, size);
  return kSuccess;
}

DRIVER(cuMemcpyHtoD, Address to, const void* from, std::size_t size) {
  return copy_now(reinterpret_cast<void*>(to), from, size, to);
}

DRIVER(cuMemcpyDtoH, void* to, Address from, std::size_t size) {
  return copy_now(to, reinterpret_cast<const void*>(from), size, from);
}

DRIVER(cuMemcpyHtoDAsync, Address to, const void* from, std::size_t size, void* on) {
  return enqueue_copy(on, to, reinterpret_cast<Address>(from), size, {to});
}

DRIVER(cuMemcpyDtoHAsync, void* to, Address from, std::size_t size, void* on) {
  return enqueue_copy(on, reinterpret_cast<Address>(to), from, size, {from});
}

DRIVER(cuMemcpyAsync, Address to, Address from, std::size_t size, void* on) { return enqueue_copy(on, to, from, size, {to, from}); }

DRIVER(cuMemsetD8Async, Address address, unsigned char value, std::size_t size, void* on) {
  return enqueue(on, [=] {
    if (!live(address, size)) return kIllegalAddress;
    std::memset(reinterpret_cast<void*>(address), value, size);
    return kSuccess;
  });
}

// Not of CUDA's device, but of its queue: what a network that the host computes calls.
DRIVER(cuLaunchHostFunc, void* on, void (*function)(void*), void* data) {
  return enqueue(on, [=] {
    function(data);
    return kSuccess;
  });
}

// Kernels

DRIVER(cuLibraryLoadData, void** handle, const void* code, void*, void*, unsigned, void*, void*, unsigned) {
  if (!current()) return kInvalidContext;
  if (std::memcmp(code, "\177ELF", 4)) return kInvalidValue;
  libraries.insert(*handle = new Library);
  return kSuccess;
}

DRIVER(cuLibraryUnload, void* handle) { return libraries.erase(handle) ? kSuccess : kInvalidHandle; }

DRIVER(cuLibraryGetKernel, void** handle, void* from, const char* name) {
  auto* library = known<Library>(libraries, from);
  if (!library) return kInvalidHandle;
  if (!function_of(name)) return kNotFound;
  auto& kernel = library->kernels[name];
  if (!kernel) kernel = std::make_unique<Kernel>(Kernel{name});
  kernels.insert(*handle = kernel.get());
  return kSuccess;
}

DRIVER(cuKernelGetFunction, void** function, void* handle) {
  if (!kernels.count(handle)) return kInvalidHandle;
  *function = handle;
  return kSuccess;
}

DRIVER(cuFuncLoad, void* handle) {
  auto* kernel = known<Kernel>(kernels, handle);
  if (!kernel) return kInvalidHandle;
  kernel->loaded = true;
  return kSuccess;
}

DRIVER(cuKernelGetAttribute, int* value, int, void* handle, int) {
  *value = 0;
  return kernels.count(handle) ? kSuccess : kInvalidHandle;
}

struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};

DRIVER(cuLaunchKernelEx, const LaunchConfig* config, void* handle, void** arguments, void**) {
  const auto* kernel = known<Kernel>(kernels, handle);
  const Stream* stream = stream_of(config->stream);
  if (!kernel || !stream) return kInvalidHandle;
  if (config->grid_z != 1 || config->block_y != 1 || config->block_z != 1 || config->shared) return kNotSupported;
  if (config->block_x == 0 || config->block_x > 1024 || config->grid_y > 65535) return kInvalidValue;
  if (stream->recording && !kernel->loaded) {
    std::fprintf(stderr, "fake driver: %s is loaded within a recording\n", kernel->name.c_str());
    return kCaptureUnsupported;
  }
  const auto run = function_of(kernel->name);
  const auto state = *static_cast<const Address*>(arguments[0]);
  if (kernel->name == "seggd_more") {
    const auto handle = *static_cast<const std::uint64_t*>(arguments[1]);
    if (!conditions.count(handle)) return kInvalidValue;
    return enqueue(config->stream, [=] {
      const auto* sampling = reinterpret_cast<const seggd::Sampling*>(state);
      conditions[handle].value = static_cast<int>(*sampling->step) < sampling->steps;
      return kSuccess;
    });
  }
  const unsigned x = config->grid_x, y = config->grid_y, block = config->block_x;
  return enqueue(config->stream, [=] {
    if (!live(state, sizeof(seggd::Sampling))) return kIllegalAddress;
    emulate(run, x, y, block, reinterpret_cast<const seggd::Sampling*>(state));
    return kSuccess;
  });
}

// Graphs

DRIVER(cuStreamBeginCapture, void* handle, int mode) {
  auto* stream = known<Stream>(streams, handle);
  if (!stream) return kInvalidHandle;
  if (stream->recording) return kInvalidValue;
  stream->recording = new Graph, stream->recording_own = true, stream->recording_broken = false;
  stream->mode = mode, stream->recorder = &here;
  return kSuccess;
}

DRIVER(cuStreamBeginCaptureToGraph, void* handle, void* into, void*, void*, std::size_t, int mode) {
  auto* stream = known<Stream>(streams, handle);
  auto* graph = known<Graph>(graphs, into);
  if (!stream || !graph) return kInvalidHandle;
  if (stream->recording) return kInvalidValue;
  stream->recording = graph, stream->recording_own = false, stream->recording_broken = false;
  stream->mode = mode, stream->recorder = &here;
  return kSuccess;
}

DRIVER(cuStreamEndCapture, void* handle, void** graph) {
  auto* stream = known<Stream>(streams, handle);
  if (!stream) return kInvalidHandle;
  if (!stream->recording) return kInvalidValue;
  *graph = stream->recording;
  stream->recording = nullptr;
  if (stream->recording_broken) {
    if (stream->recording_own) delete static_cast<Graph*>(*graph);
    *graph = nullptr;
    return kCaptureInvalidated;
  }
  graphs.insert(*graph);
  return kSuccess;
}

DRIVER(cuStreamIsCapturing, void* handle, int* status) {
  const Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  *status = !stream->recording ? 0 : stream->recording_broken ? 2 : 1;
  return kSuccess;
}

DRIVER(cuStreamGetCaptureInfo, void* handle, int* status, std::uint64_t* id, void** graph, void*** last,
       void** edges, std::size_t* count) {
  static void* node = nullptr;  // nodes are in the order of their recording, so which comes last says nothing
  static std::uint64_t edge = 0;
  const Stream* stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  *status = !stream->recording ? 0 : stream->recording_broken ? 2 : 1;
  node = stream->recording;
  if (id) *id = 1;
  if (graph) *graph = stream->recording;
  if (last) *last = &node;
  if (edges) *edges = &edge;
  if (count) *count = 1;
  return kSuccess;
}

DRIVER(cuGraphCreate, void** handle, unsigned) {
  graphs.insert(*handle = new Graph);
  return kSuccess;
}

DRIVER(cuGraphConditionalHandleCreate, std::uint64_t* handle, void* graph, void* context, unsigned initial, unsigned flags) {
  if (!known<Graph>(graphs, graph) || !context || flags != 1) return kInvalidValue;
  *handle = conditions.size() + 1;
  conditions[*handle] = {initial, initial};
  return kSuccess;
}

struct ConditionalNode {
  int kind, reserved[3];
  std::uint64_t handle;
  int type;
  unsigned size;
  void** bodies;
  void* context;
};

// A while-node: its body, filled afterwards, again and again as long as the condition holds.
DRIVER(cuGraphAddNode, void** node, void* into, void*, void*, std::size_t, ConditionalNode* given) {
  constexpr int kConditional = 13, kWhile = 1;
  auto* graph = known<Graph>(graphs, into);
  if (!graph || !conditions.count(given->handle)) return kInvalidValue;
  if (given->kind != kConditional || given->type != kWhile || given->size != 1 || !given->context) return kNotSupported;
  const auto body = std::make_shared<Graph>();
  graphs.insert(body.get());
  given->bodies = new void*(body.get());
  *node = body.get();
  graph->nodes.push_back([body, handle = given->handle] {
    auto& [value, initial] = conditions[handle];
    for (value = initial; value;) {
      for (const Work& work : body->nodes)
        if (const Status status = work()) return status;
    }
    return kSuccess;
  });
  return kSuccess;
}

DRIVER(cuGraphInstantiateWithFlags, void** handle, void* from, std::uint64_t) {
  const auto* graph = known<Graph>(graphs, from);
  if (!graph) return kInvalidHandle;
  execs.insert(*handle = new GraphExec{*graph});
  return kSuccess;
}

DRIVER(cuGraphInstantiateWithParams, void** handle, void* from, void*) {
  const auto* graph = known<Graph>(graphs, from);
  if (!graph) return kInvalidHandle;
  execs.insert(*handle = new GraphExec{*graph});
  return kSuccess;
}

DRIVER(cuUserObjectCreate, void** handle, void* of, void (*end)(void*), unsigned count, unsigned) {
  user_objects.insert(*handle = new UserObject{of, end, count});
  return kSuccess;
}

DRIVER(cuUserObjectRelease, void* handle, unsigned count) {
  auto* object = known<UserObject>(user_objects, handle);
  if (!object) return kInvalidHandle;
  release(object, count);
  return kSuccess;
}

DRIVER(cuGraphRetainUserObject, void* handle, void* held, unsigned count, unsigned flags) {
  constexpr unsigned kMove = 1;
  auto* graph = known<Graph>(graphs, handle);
  auto* object = known<UserObject>(user_objects, held);
  if (!graph || !object) return kInvalidHandle;
  graph->held[object] += count;
  if (!(flags & kMove)) object->count += count;
  return kSuccess;
}

DRIVER(cuGraphReleaseUserObject, void* handle, void* held, unsigned count) {
  auto* graph = known<Graph>(graphs, handle);
  auto* object = known<UserObject>(user_objects, held);
  if (!graph || !object || graph->held[object] < count) return kInvalidValue;
  if ((graph->held[object] -= count) == 0) graph->held.erase(object);
  release(object, count);
  return kSuccess;
}

DRIVER(cuGraphUpload, void* handle, void* on) { return execs.count(handle) && stream_of(on) ? kSuccess : kInvalidHandle; }

DRIVER(cuGraphLaunch, void* handle, void* on) {
  const auto* exec = known<GraphExec>(execs, handle);
  if (!exec) return kInvalidHandle;
  for (const Work& node : exec->graph.nodes)
    if (const Status status = enqueue(on, node)) return status;
  return kSuccess;
}

DRIVER(cuGraphExecDestroy, void* handle) {
  if (!execs.erase(handle)) return kInvalidHandle;
  delete static_cast<GraphExec*>(handle);
  return kSuccess;
}

DRIVER(cuGraphDestroy, void* handle) {
  if (!graphs.erase(handle)) {
    std::fprintf(stderr, "fake driver: a graph is destroyed that is no more\n");
    std::abort();  // as the real one does, for such a handle is an address
  }
  delete static_cast<Graph*>(handle);
  return kSuccess;
}

// Each call takes the guard: cuda.core calls from any thread, without Python's lock.
template <auto kFunction, bool kAtAnyTime = false>
struct Guarded;

template <typename... Arguments, Status (*kFunction)(Arguments...), bool kAtAnyTime>
struct Guarded<kFunction, kAtAnyTime> {
  static Status call(Arguments... arguments) {
    const Lock lock(guard);
    return started || kAtAnyTime ? kFunction(arguments...) : kNotInitialized;
  }
};

#define ENTRY(name) {#name, reinterpret_cast<void*>(&Guarded<&name>::call)}
#define BEFORE_START(name) {#name, reinterpret_cast<void*>(&Guarded<&name, true>::call)}

const std::map<std::string, void*>& entries() {
  static const std::map<std::string, void*> all = {
      BEFORE_START(cuInit), BEFORE_START(cuDriverGetVersion), BEFORE_START(cuGetErrorName), BEFORE_START(cuGetErrorString), ENTRY(cuDeviceGetCount),
      ENTRY(cuDeviceGet), ENTRY(cuDeviceGetName), ENTRY(cuDeviceTotalMem), ENTRY(cuDeviceGetAttribute),
      ENTRY(cuDeviceGetUuid), ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuDevicePrimaryCtxRelease), ENTRY(cuCtxCreate), ENTRY(cuCtxDestroy),
      ENTRY(cuCtxSetCurrent),
      ENTRY(cuCtxGetCurrent), ENTRY(cuCtxPushCurrent), ENTRY(cuCtxPopCurrent), ENTRY(cuCtxGetDevice), ENTRY(cuCtxGetId),
      ENTRY(cuCtxGetStreamPriorityRange), ENTRY(cuCtxSynchronize), ENTRY(cuStreamCreateWithPriority),
      ENTRY(cuStreamDestroy), ENTRY(cuStreamGetCtx), ENTRY(cuStreamGetDevice), ENTRY(cuStreamGetFlags),
      ENTRY(cuStreamGetPriority), ENTRY(cuStreamSynchronize), ENTRY(cuStreamQuery), ENTRY(cuStreamWaitEvent),
      ENTRY(cuEventCreate), ENTRY(cuEventDestroy), ENTRY(cuEventRecord), ENTRY(cuEventSynchronize), ENTRY(cuEventQuery),
      ENTRY(cuMemGetInfo), ENTRY(cuMemAlloc), ENTRY(cuMemFree), ENTRY(cuMemAllocHost), ENTRY(cuMemFreeHost),
      ENTRY(cuMemPoolCreate), ENTRY(cuMemPoolDestroy), ENTRY(cuMemPoolSetAttribute), ENTRY(cuMemPoolGetAttribute), ENTRY(cuMemPoolSetAccess), ENTRY(cuUserObjectCreate), ENTRY(cuUserObjectRelease),
      ENTRY(cuGraphRetainUserObject), ENTRY(cuGraphReleaseUserObject),
      ENTRY(cuMemAllocFromPoolAsync), ENTRY(cuMemFreeAsync), ENTRY(cuPointerGetAttribute), ENTRY(cuPointerGetAttributes), ENTRY(cuMemcpyHtoD), ENTRY(cuMemcpyDtoH), ENTRY(cuMemcpyHtoDAsync), ENTRY(cuMemcpyDtoHAsync),
      ENTRY(cuMemcpyAsync), ENTRY(cuMemsetD8Async), ENTRY(cuLibraryLoadData), ENTRY(cuLibraryUnload),
      ENTRY(cuLibraryGetKernel), ENTRY(cuKernelGetFunction), ENTRY(cuFuncLoad), ENTRY(cuKernelGetAttribute),
      ENTRY(cuLaunchKernelEx), ENTRY(cuLaunchHostFunc), ENTRY(cuStreamBeginCapture), ENTRY(cuStreamEndCapture), ENTRY(cuStreamBeginCaptureToGraph), ENTRY(cuGraphCreate),
      ENTRY(cuGraphConditionalHandleCreate), ENTRY(cuGraphAddNode), ENTRY(cuStreamIsCapturing),
      ENTRY(cuStreamGetCaptureInfo), ENTRY(cuGraphInstantiateWithFlags), ENTRY(cuGraphInstantiateWithParams), ENTRY(cuGraphUpload), ENTRY(cuGraphLaunch),
      ENTRY(cuGraphExecDestroy), ENTRY(cuGraphDestroy),
  };
  return all;
}

// A function for each name that is not here, so that a call tells which.
constexpr int kMissing = 640;
std::string missing_names[kMissing];

template <int kIndex>
int missing() {
  std::fprintf(stderr, "fake driver: %s is not there\n", missing_names[kIndex].c_str());
  return kNotSupported;
}

template <int... kIndices>
constexpr std::array<int (*)(), kMissing> list_missing(std::integer_sequence<int, kIndices...>) {
  return {missing<kIndices>...};
}

const auto missing_functions = list_missing(std::make_integer_sequence<int, kMissing>());

}  // namespace

extern "C" int cuGetProcAddress_v2(const char* name, void** function, int, std::uint64_t, int* status) {
  const Lock lock(guard);
  static int count = 0;
  if (status) *status = 0;
  const auto found = entries().find(name);
  if (found != entries().end()) {
    *function = found->second;
    return kSuccess;
  }
  if (count == kMissing) return kNotFound;
  missing_names[count] = name;
  *function = reinterpret_cast<void*>(missing_functions[count++]);
  return kSuccess;
}

extern "C" int cuGetProcAddress(const char* name, void** function, int version, std::uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
