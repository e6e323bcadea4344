#include "bundle/regular_file.h"

#include <gtest/gtest.h>

#include <system_error>

#include "tests/golden.h"

#ifndef _WIN32
#include <sys/stat.h>
#endif

namespace {

namespace fs = std::filesystem;
using golden::Copy;
using seggd::core::RegularFile;

TEST(RegularFile, IsReadAsItWasWhenItWasOpened) {
  const Copy copy;
  const fs::path path = copy.file("text");
  golden::write(path, "0123456789");
  const RegularFile grown(path), cut(path);
  fs::resize_file(path, 1 << 20);
  EXPECT_EQ(grown.size(), 10u);
  EXPECT_EQ(grown.read(), "0123456789");
  fs::resize_file(path, 4);
  EXPECT_EQ(cut.read(), "0123");
}

TEST(RegularFile, AnEmptyFile) {
  const Copy copy;
  golden::write(copy.file("empty"), "");
  EXPECT_EQ(RegularFile(copy.file("empty")).read(), "");
}

TEST(RegularFile, WhatIsNone) {
  const Copy copy;
  EXPECT_THROW(RegularFile{copy.file("missing")}, std::system_error);
  EXPECT_THROW(RegularFile{copy.path()}, std::system_error);
#ifndef _WIN32
  fs::create_symlink("bundle.json", copy.file("link"));
  EXPECT_THROW(RegularFile{copy.file("link")}, std::system_error);
  ASSERT_EQ(mkfifo(copy.file("pipe").c_str(), 0600), 0);
  EXPECT_THROW(RegularFile{copy.file("pipe")}, std::system_error);  // and does not wait for a writer
#endif
}

}  // namespace
