#include "bundle/meaning.h"

#include <gtest/gtest.h>

#include <cmath>

#include "bundle/safetensors.h"
#include "bundle/sha256.h"
#include "tests/golden.h"

namespace {

using golden::Json;
using namespace seggd::core;

TEST(Meaning, IsThatOfTheExport) {
  for (const char* name : {"tiny", "tiny-rgb"}) {
    const std::filesystem::path path = golden::bundle(name);
    const Manifest manifest = parse_manifest(golden::read(path / "bundle.json"), "bundle.json");
    const Safetensors check = read_safetensors(path / "check.safetensors");
    EXPECT_EQ(meaning(manifest), read_json(check.metadata.at(std::string(kMeaningKey))));
  }
}

TEST(Meaning, ValuesCountNotHowTheyAreWritten) {
  const std::filesystem::path path = golden::bundle("tiny");
  Manifest manifest = parse_manifest(golden::read(path / "bundle.json"), "bundle.json");
  Json stated = read_json(read_safetensors(path / "check.safetensors").metadata.at(std::string(kMeaningKey)));
  stated["schedule"]["beta_end"] = read_json("2.0e-2");
  EXPECT_EQ(meaning(manifest), stated);
  manifest.schedule.beta_end = std::nextafter(manifest.schedule.beta_end, 1.0);
  EXPECT_NE(meaning(manifest), stated);
}

TEST(Sha256, IsTheStandards) {
  // FIPS 180-4's examples.
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
