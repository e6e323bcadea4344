#include "engines/plan_cache.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "bundle/fields.h"
#include "bundle/sha256.h"
#include "core/error.h"
#include "core/library.h"

#ifndef _WIN32
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace seggd::core {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string data{std::istreambuf_iterator<char>(file), {}};
  if (!file) return std::nullopt;
  return data;
}

bool is_recorded(const PlanRecord& record, const std::string& data) {
  return data.size() == record.size && core::sha256(data) == record.sha256;
}

// Refuses a folder that others may write to, or that is not this user's: a plan in there could be anyone's.
void require_private([[maybe_unused]] const fs::path& folder) {
#ifndef _WIN32
  struct stat found {};
  if (stat(folder.c_str(), &found) != 0 || found.st_uid != getuid() || (found.st_mode & 0077) != 0)
    throw Error(SEGGD_ENGINE, folder.u8string() +
                                  " holds code that runs on the GPU, and others than you may write there: empty it "
                                  "(seggd-rt cache clear), then chmod 700 it");
#endif
}

}  // namespace

fs::path user_plan_folder() {
#ifdef _WIN32
  const std::string base = environment("LOCALAPPDATA");
  return base.empty() ? fs::path() : fs::u8path(base) / "seggd-rt" / "seggd-rt" / "Cache" / "plans";
#else
  fs::path base = environment("XDG_CACHE_HOME");
  if (!base.is_absolute()) {
    const std::string home = environment("HOME");
    if (home.empty()) return {};
    base = fs::path(home) / ".cache";
  }
  return base / "seggd-rt" / "plans";
#endif
}

std::optional<StoredPlan> find_plan(const fs::path& folder, const std::function<bool(const PlanKey&)>& fits,
                                    std::vector<std::string>& notes) {
  std::error_code ignored;  // a folder that cannot be read is as good as none
  if (folder.empty() || !fs::is_directory(folder, ignored)) return std::nullopt;
  require_private(folder);
  std::vector<PlanRecord> records;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    try {
      PlanRecord record = parse_plan_record(read(entry.path()).value_or(""));
      if (record.stem != entry.path().stem().u8string()) throw Invalid("it is another plan's");
      if (fits(record.key)) records.push_back(std::move(record));
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      notes.push_back(entry.path().u8string() + " is damaged (" + error.what() + "): its plan is not used");
    }
  }
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return a.asked > b.asked; });
  for (PlanRecord& record : records) {
    const fs::path path = fs::u8path(record.path);
    std::optional<std::string> data = read(path);
    if (data && is_recorded(record, *data)) return StoredPlan{std::move(record), path, std::move(*data)};
    notes.push_back("the plan " + path.u8string() +
                    (data ? " is damaged, or not the one that was built: it is passed over"
                          : " cannot be read: it is passed over"));
  }
  return std::nullopt;
}

StoredPlan named_plan(const fs::path& path) {
  const fs::path beside = fs::path(path).replace_extension(".json");
  const auto refused = [&](const std::string& why) {
    return Error(SEGGD_DATA, "the plan " + path.u8string() + " cannot be used: " + why);
  };
  std::optional<std::string> described = read(beside), data = read(path);
  if (!described || !data)
    throw refused("it must be a plan of seggd-rt build, with its record " + beside.filename().u8string() +
                  " beside it");
  try {
    PlanRecord record = parse_plan_record(*described);
    if (!is_recorded(record, *data)) throw refused("it is not what its record says; copy or build it again");
    return {std::move(record), path, std::move(*data)};
  } catch (const Json::exception& error) {
    throw refused(error.what());
  } catch (const Invalid& error) {
    throw refused(error.what());
  }
}

}  // namespace seggd::core
