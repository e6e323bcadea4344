// ONNX Runtime as it is, but for its CUDA provider: what would be asked of one is noted, and its memory is the host's.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace {

std::string notes;
const OrtApi* real = nullptr;

void note(const std::string& text) { notes += text + "\n"; }

OrtStatusPtr ORT_API_CALL create(OrtCUDAProviderOptionsV2** out) noexcept {
  *out = reinterpret_cast<OrtCUDAProviderOptionsV2*>(&notes);
  return nullptr;
}

void ORT_API_CALL release(OrtCUDAProviderOptionsV2*) noexcept {}

OrtStatusPtr ORT_API_CALL update(OrtCUDAProviderOptionsV2*, const char* const* keys, const char* const* values,
                                 size_t count) noexcept {
  for (size_t i = 0; i < count; ++i) note(std::string(keys[i]) + "=" + values[i]);
  return nullptr;
}

OrtStatusPtr ORT_API_CALL update_with_value(OrtCUDAProviderOptionsV2*, const char* key, void* value) noexcept {
  note(std::string(key) + (value ? " is a pointer" : " is null"));
  return nullptr;
}

OrtStatusPtr ORT_API_CALL append(OrtSessionOptions*, const OrtCUDAProviderOptionsV2*) noexcept {
  note("appended");
  return nullptr;
}

OrtStatusPtr ORT_API_CALL create_memory(const char* name, OrtAllocatorType type, int id, OrtMemType kind,
                                        OrtMemoryInfo** out) noexcept {
  note(std::string("memory of ") + name + " " + std::to_string(id));
  return real->CreateMemoryInfo("Cpu", type, id, kind, out);
}

OrtStatusPtr ORT_API_CALL add_session_entry(OrtSessionOptions*, const char* key, const char* value) noexcept {
  note(std::string(key) + "=" + value);
  return nullptr;
}

OrtStatusPtr ORT_API_CALL add_run_entry(OrtRunOptions*, const char* key, const char* value) noexcept {
  note(std::string(key) + "=" + value);
  return nullptr;
}

const OrtApi* ORT_API_CALL api_of(uint32_t version) noexcept;
const char* ORT_API_CALL version_of() noexcept { return "1.23.0"; }

const OrtApiBase kBase{api_of, version_of};

const OrtApi* ORT_API_CALL api_of(uint32_t version) noexcept {
  void* library = dlopen(ONNXRUNTIME_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  auto* base = reinterpret_cast<decltype(OrtGetApiBase)*>(dlsym(library, "OrtGetApiBase"));
  real = base()->GetApi(version);
  static OrtApi changed;
  // The table of this version may end before that of the headers.
  std::memcpy(&changed, real, offsetof(OrtApi, UpdateCUDAProviderOptionsWithValue) + sizeof(void*));
  changed.CreateCUDAProviderOptions = create;
  changed.ReleaseCUDAProviderOptions = release;
  changed.UpdateCUDAProviderOptions = update;
  changed.UpdateCUDAProviderOptionsWithValue = update_with_value;
  changed.SessionOptionsAppendExecutionProvider_CUDA_V2 = append;
  changed.CreateMemoryInfo = create_memory;
  changed.AddSessionConfigEntry = add_session_entry;
  changed.AddRunConfigEntry = add_run_entry;
  return &changed;
}

}  // namespace

extern "C" {

const OrtApiBase* ORT_API_CALL OrtGetApiBase() noexcept { return &kBase; }

// What was asked for since it was asked last.
const char* fake_notes() {
  static std::string told;
  told = std::move(notes);
  notes.clear();
  return told.c_str();
}
}
