#include "bundle/manifest.h"

#include <algorithm>
#include <map>
#include <set>

#include "bundle/fields.h"
#include "core/wording.h"

namespace seggd::core {
namespace {

constexpr int kMaxPixels = 1 << 26;

bool is_file_name(const std::string& path) {
  const auto letter = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !path.empty() && path.size() <= 128 && letter(path.front()) && path.back() != '.' &&
         std::all_of(path.begin(), path.end(), [&](char c) { return letter(c) || c == '.' || c == '-'; });
}

bool is_sha256(const std::string& digits) {
  return digits.size() == 64 && digits.find_first_not_of("0123456789abcdef") == std::string::npos;
}

FileRef read_file(const Json& json, const std::string& where) {
  Fields fields(json, where);
  FileRef ref{fields.text("path"), fields.text("sha256"), 0};
  if (!is_file_name(ref.path))
    throw Invalid("path is '" + ref.path + "'; it must be a plain file name inside the bundle's folder");
  if (!is_sha256(ref.sha256)) throw Invalid("sha256 of " + ref.path + " must be 64 lowercase hexadecimal digits");
  const Json& size = fields.require("size");
  if (!size.is_number_unsigned()) throw Invalid("size of " + ref.path + " must be a whole number, and not negative");
  ref.size = size.get<uint64_t>();
  fields.finish();
  return ref;
}

ImageSpec read_image(const Json& json) {
  Fields fields(json, "image");
  ImageSpec image{fields.whole("channels"), fields.whole("height"), fields.whole("width")};
  fields.finish();
  if (image.channels < 1 || image.channels > 64)
    throw Invalid("image channels is " + std::to_string(image.channels) + "; it must lie in [1, 64]");
  if (image.height < 1 || image.width < 1 || static_cast<int64_t>(image.height) * image.width > kMaxPixels)
    throw Invalid("image size is " + std::to_string(image.height) + "x" + std::to_string(image.width) +
                  "; it must have 1 to " + std::to_string(kMaxPixels) + " pixels");
  return image;
}

std::vector<LabelClass> read_classes(const Json& json) {
  std::vector<LabelClass> classes;
  for (const Json& one : Fields::list_of(json, "classes")) {
    Fields fields(one, "classes");
    LabelClass found{fields.whole("id"), fields.text("name"), {}};
    const Json& color = Fields::list_of(fields.require("color"), "color");
    if (color.size() != 3) throw Invalid("class color must be of length 3: red, green, blue");
    for (size_t i = 0; i < 3; ++i) found.color[i] = Fields::whole_of(color[i], "color");
    fields.finish();
    found.check();
    classes.push_back(std::move(found));
  }
  check_classes(classes);
  return classes;
}

MaskSpec read_mask(const Json& json) {
  Fields fields(json, "mask");
  const MaskSpec mask{fields.choice("encoding", kEncodings), fields.truth_or_null("trained_with_ablation"),
                      fields.truth_or_null("trained_with_empty_mask")};
  fields.finish();
  return mask;
}

NoiseSchedule read_schedule(const Json& json) {
  Fields fields(json, "schedule");
  NoiseSchedule schedule;
  if (fields.find("train_steps")) schedule.train_steps = fields.whole("train_steps");
  if (fields.find("beta_curve")) schedule.beta_curve = fields.choice("beta_curve", kBetaCurves);
  if (fields.find("beta_start")) schedule.beta_start = fields.number("beta_start");
  if (fields.find("beta_end")) schedule.beta_end = fields.number("beta_end");
  if (fields.find("prediction")) schedule.prediction = fields.choice("prediction", kPredictions);
  if (fields.find("spacing")) schedule.spacing = fields.choice("spacing", kSpacings);
  if (fields.find("steps_offset")) schedule.steps_offset = fields.whole("steps_offset");
  if (fields.find("clip_x0"))
    schedule.clip_x0 = fields.given("clip_x0") ? std::optional(fields.number("clip_x0")) : std::nullopt;
  if (fields.find("zero_terminal_snr")) schedule.zero_terminal_snr = fields.truth("zero_terminal_snr");
  if (fields.find("final_alpha_bar_one")) schedule.final_alpha_bar_one = fields.truth("final_alpha_bar_one");
  fields.finish();
  schedule.check();
  return schedule;
}

// How a graph compared with PyTorch at export: only checked for its form, as engines are checked again when they open
// it.
void check_parity(const Json& json) {
  Fields fields(json, "parity");
  fields.check_whole("states");
  for (const char* key : {"rel_l2", "rel_max", "limit"}) fields.number(key);
  if (!fields.require("image_psnr_db").is_null()) fields.number("image_psnr_db");
  fields.finish();
}

std::vector<Graph> read_graphs(const Json& json) {
  std::vector<Graph> graphs;
  std::set<Precision> precisions;
  for (const Json& one : Fields::list_of(json, "graphs")) {
    Fields fields(one, "graphs");
    Graph graph{fields.choice("precision", kPrecisions), {}};
    for (const Json& file : Fields::list_of(fields.require("files"), "files"))
      graph.files.push_back(read_file(file, "files"));
    fields.check_whole("opset");
    check_parity(fields.require("parity"));
    fields.finish();
    const std::string precision(kPrecisions.name(graph.precision));
    if (graph.files.empty()) throw Invalid("the " + precision + " graph names no file");
    if (!precisions.insert(graph.precision).second)
      throw Invalid("there are two graphs in " + precision + "; there must be each once");
    graphs.push_back(std::move(graph));
  }
  if (graphs.empty()) throw Invalid("there must be at least one graph");
  return graphs;
}

void check_provenance(const Json& json) {
  Fields fields(json, "provenance");
  for (const char* key : {"checkpoint_sha256", "checkpoint_format"}) fields.text(key);
  const Json& versions = fields.require("versions");
  Fields(versions, "versions");
  for (const auto& item : versions.items()) Fields::text_of(item.value(), "versions");
  fields.check_whole("parameters");
  for (const char* key : {"training_data", "licence", "intended_use"})
    if (fields.given(key)) fields.text(key);
  fields.reserved("training");
  fields.finish();
}

// The sampling loop as one graph, which this library only verifies: `extensions.sampler`.
std::vector<FileRef> read_sampler(const Json* extensions) {
  if (!extensions) return {};
  const auto found = extensions->find("sampler");
  if (found == extensions->end() || found->is_null()) return {};
  Fields fields(*found, "extensions.sampler");
  std::vector<FileRef> files;
  for (const Json& file : Fields::list_of(fields.require("files"), "files")) files.push_back(read_file(file, "files"));
  if (files.empty()) throw Invalid("extensions.sampler names no file");
  fields.choice("sampler", kSamplers);
  for (const char* key : {"opset", "steps"}) fields.check_whole(key);
  for (const char* key : {"max_error", "limit"}) fields.number(key);
  fields.finish();
  return files;
}

void check_range(double low, double high, int most, const std::string& what) {
  if (!(0 <= low && low <= high && high <= most))
    throw Invalid(what + " must rise in [0, " + std::to_string(most) + "]");
}

std::optional<std::pair<double, double>> read_pair(Fields& fields, const std::string& key) {
  const Json* json = fields.given(key);
  if (!json) return std::nullopt;
  if (Fields::list_of(*json, key).size() != 2) throw Invalid(key + " must be of length 2");
  return std::pair(Fields::number_of((*json)[0], key), Fields::number_of((*json)[1], key));
}

// The grey levels that the segmenter's classes have in training images, by name.
void check_intensities(const Json& json, const std::vector<LabelClass>& classes) {
  std::set<std::string> names;
  for (const Json& one : Fields::list_of(json, "segmenter.intensities")) {
    Fields fields(one, "segmenter.intensities");
    const std::string name = fields.text("name");
    check_range(fields.number("low"), fields.number("high"), 1, "intensities of " + name);
    fields.finish();
    const auto is_it = [&name](const LabelClass& known) { return known.name == name; };
    if (std::none_of(classes.begin() + 1, classes.end(), is_it) || !names.insert(name).second)
      throw Invalid("segmenter.intensities must each be of another foreground class, and '" + name + "' is not");
  }
}

void check_segmenter_parity(const Json& json) {
  Fields fields(json, "segmenter.parity");
  fields.check_whole("images");
  for (const char* key : {"rel_l2", "rel_max", "limit", "labels_changed", "labels_limit"}) fields.number(key);
  fields.finish();
}

void check_real_dice(const Json& json) {
  Fields fields(json, "segmenter.real");
  fields.text("data");
  fields.check_whole("images");
  if (!fields.require("patients").is_null()) fields.check_whole("patients");
  for (const char* key : {"per_patient", "per_image", "per_image_low"}) {
    const double dice = fields.number(key);
    if (!(0 <= dice && dice <= 1)) throw Invalid(fields.at(key) + " is no Dice, which lies in [0, 1]");
  }
  fields.finish();
}

// The segmenter that images may be checked by, which this library only verifies.
std::vector<FileRef> read_segmenter(const Json* json, const std::vector<LabelClass>& classes) {
  if (!json) return {};
  Fields fields(*json, "segmenter");
  std::vector<FileRef> files;
  for (const Json& file : Fields::list_of(fields.require("files"), "files")) files.push_back(read_file(file, "files"));
  if (files.empty()) throw Invalid("the segmenter names no file");
  fields.check_whole("opset");
  std::vector<std::string> names;
  for (const Json& name : Fields::list_of(fields.require("classes"), "segmenter.classes"))
    names.push_back(Fields::text_of(name, "segmenter.classes"));
  const auto same = [](const LabelClass& known, const std::string& name) { return known.name == name; };
  if (!std::equal(classes.begin(), classes.end(), names.begin(), names.end(), same))
    throw Invalid("segmenter.classes must be the bundle's");
  check_segmenter_parity(fields.require("parity"));
  const auto percentiles = read_pair(fields, "percentiles");
  if (!percentiles) throw Invalid("segmenter lacks 'percentiles'");
  check_range(percentiles->first, percentiles->second, 100, "segmenter.percentiles");
  check_intensities(fields.require("intensities"), classes);
  if (const Json* real = fields.given("real")) check_real_dice(*real);
  fields.finish();
  return files;
}

// Whether a segment surely names no class: Python folds case by Unicode's rules, here ASCII's letters alone are folded.
bool is_stray(const std::string& said, const std::vector<LabelClass>& classes) {
  const auto is_ascii = [](const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  };
  return is_ascii(said) && folded(said) != "background" &&
         std::all_of(classes.begin(), classes.end(), [&](const LabelClass& known) {
           return is_ascii(known.name) && folded(known.name) != folded(said);
         });
}

// What DICOM calls the classes, which this library only checks: it reads no DICOM.
void check_dicom(const Json* json, const std::vector<LabelClass>& classes) {
  if (!json) return;
  Fields fields(*json, "dicom");
  if (const Json* segments = fields.find("segments")) {
    Fields(*segments, "dicom.segments");
    for (const auto& item : segments->items()) {
      const std::string said = Fields::text_of(item.value(), "dicom.segments");
      if (is_stray(said, classes))
        throw Invalid("dicom.segments has '" + said + "' for '" + item.key() + "'; it must be a class, or background");
    }
  }
  fields.finish();
}

void check_names(const Manifest& manifest) {
  const FileRef reserved;
  std::map<std::string, const FileRef*> files{{std::string(kManifest), &reserved},
                                              {std::string(kSignature), &reserved}};
  const auto add = [&files](const FileRef& ref) {
    if (!files.emplace(ref.path, &ref).second)
      throw Invalid("files must differ from each other, from " + std::string(kManifest) + " and from " +
                    std::string(kSignature) + ", and '" + ref.path + "' does not");
  };
  for (const Graph& graph : manifest.graphs) std::for_each(graph.files.begin(), graph.files.end(), add);
  add(manifest.check_file);
  std::for_each(manifest.segmenter_files.begin(), manifest.segmenter_files.end(), add);
  const auto others = files;
  for (const FileRef& ref : manifest.sampler_files) {
    // Its weights may be the fp32 graph's own file.
    const auto found = others.find(ref.path);
    if (found == others.end() || !(*found->second == ref)) add(ref);
  }
}

void check_steps(const std::string& owner, int steps, const NoiseSchedule& schedule) {
  if (steps < 1 || steps > schedule.train_steps)
    throw Invalid(owner + ".steps is " + std::to_string(steps) + "; it must lie in [1, " +
                  std::to_string(schedule.train_steps) + "]");
}

Manifest read(const Json& json) {
  Fields fields(json, "the manifest");
  Manifest manifest;
  fields.text("schema");
  manifest.name = fields.text("name");
  manifest.image = read_image(fields.require("image"));
  manifest.classes = read_classes(fields.require("classes"));
  manifest.mask = read_mask(fields.require("mask"));
  manifest.schedule = read_schedule(fields.require("schedule"));
  manifest.graphs = read_graphs(fields.require("graphs"));
  Fields check(fields.require("check"), "check");
  manifest.check_file = read_file(check.require("file"), "check.file");
  manifest.check_steps = check.whole("steps");
  check.finish();
  Fields defaults(fields.require("defaults"), "defaults");
  manifest.defaults = {defaults.choice("sampler", kSamplers), defaults.whole("steps")};
  defaults.finish();
  check_provenance(fields.require("provenance"));
  if (fields.given("modality")) fields.text("modality");
  const auto spacing_mm = read_pair(fields, "spacing_mm");
  manifest.intensity_range = read_pair(fields, "intensity_range");
  manifest.segmenter_files = read_segmenter(fields.given("segmenter"), manifest.classes);
  check_dicom(fields.given("dicom"), manifest.classes);
  for (const char* key : {"evaluation", "extensions"}) fields.reserved(key);
  manifest.sampler_files = read_sampler(fields.given("extensions"));
  fields.finish();
  check_names(manifest);
  if (spacing_mm && !(std::min(spacing_mm->first, spacing_mm->second) > 0))
    throw Invalid("spacing_mm: both must be positive");
  if (manifest.intensity_range && !(manifest.intensity_range->first < manifest.intensity_range->second))
    throw Invalid("intensity_range: the first must be less than the second");
  check_steps("check", manifest.check_steps, manifest.schedule);
  check_steps("defaults", manifest.defaults.steps, manifest.schedule);
  return manifest;
}

// "seggd-bundle/" and a number above 1.
bool is_newer(const std::string& schema) {
  const std::string prefix(kSchema.substr(0, kSchema.size() - 1));
  if (schema.compare(0, prefix.size(), prefix) != 0) return false;
  const std::string number = schema.substr(prefix.size());
  return !number.empty() && number.find_first_not_of("0123456789") == std::string::npos && number.front() != '0' &&
         number != "1";
}

void check_schema(const Json& json, const std::string& where) {
  const std::string schema = Fields(json, "the manifest").text("schema");
  if (schema == kSchema) return;
  constexpr size_t kShown = 40;
  if (is_newer(schema))
    throw Error(SEGGD_BUNDLE_VERSION, where + " follows schema " + schema.substr(0, kShown) + "; this seggd-rt reads " +
                                          std::string(kSchema) + ": upgrade it");
  throw Error(SEGGD_MANIFEST,
              where + ": schema is '" + schema.substr(0, kShown) + "'; it must be '" + std::string(kSchema) + "'");
}

}  // namespace

Manifest parse_manifest(std::string_view data, const std::string& where) {
  try {
    const Json json = read_json(data);
    check_schema(json, where);
    return read(json);
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {  // nlohmann's, and what a range or a form broke
    throw Error(SEGGD_MANIFEST, where + " cannot be read (" + error.what() + "): copy or export the bundle again");
  }
}

}  // namespace seggd::core
