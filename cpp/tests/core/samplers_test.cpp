#include "core/samplers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/names.h"
#include "tests/golden.h"

namespace {

using golden::Json;
using namespace seggd::core;

constexpr float kFew = 4e-7f;  // a few last bits of float: logarithms differ between libraries

void expect_row(const seggd::UpdateRow& row, const Json& expected, const std::string& where) {
  const float found[] = {row.kx, row.ko,    row.clip, row.cx, row.co, row.c0,
                         row.cp, row.sigma, row.g,    row.m,  row.a,  row.b};
  for (size_t i = 0; i < 12; ++i) {
    const float wanted = golden::number(expected[i]);
    if (std::isinf(wanted)) {
      EXPECT_EQ(found[i], wanted) << where;
    } else {
      EXPECT_NEAR(found[i], wanted, kFew * (std::abs(wanted) + 1e-3f)) << where << " column " << i;
    }
  }
}

TEST(Schedule, IsPythons) {
  for (const auto& item : golden::vectors().at("schedules").items()) {
    const Json& expected = item.value();
    const NoiseSchedule schedule = golden::schedule(item.key());
    schedule.check();
    const std::vector<double> alpha_bar = schedule.alpha_bar();
    for (size_t i = 0; i < expected.at("places").size(); ++i)
      EXPECT_NEAR(alpha_bar[expected.at("places")[i]], expected.at("alpha_bar")[i].get<double>(), 1e-14) << item.key();
    for (const auto& spread : expected.at("timesteps").items())
      EXPECT_EQ(schedule.timesteps(9, kSpacings.require(spread.key())), spread.value().get<std::vector<int64_t>>())
          << item.key() << " " << spread.key();
  }
}

TEST(Samplers, RowsArePythons) {
  for (const Json& one : golden::vectors().at("rows")) {
    const NoiseSchedule schedule = golden::schedule(one.at("schedule"));
    const RowTable table = sampler_rows(kSamplers.require(one.at("sampler")), schedule, one.at("steps"), one.at("eta"),
                                        kSpacings.require(one.at("spacing")));
    const std::string where = one.at("schedule").get<std::string>() + " " + one.at("sampler").get<std::string>() + " " +
                              one.at("spacing").get<std::string>();
    EXPECT_EQ(table.timesteps, one.at("timesteps").get<std::vector<int64_t>>()) << where;
    ASSERT_EQ(table.rows.size(), one.at("rows").size());
    for (size_t step = 0; step < table.rows.size(); ++step) expect_row(table.rows[step], one.at("rows")[step], where);
    const Json& entry = one.at("entry");
    const int step = entry_step(table, schedule, entry.at("at"));
    EXPECT_EQ(step, entry.at("step").get<int>());
    expect_row(entry_row(table, schedule, step, entry.at("weight")), entry.at("row"), where);
  }
}

TEST(Samplers, UsualStepsArePythons) {
  for (const auto& item : golden::vectors().at("usual_steps").items())
    EXPECT_EQ(usual_steps(kSamplers.require(item.key()), NoiseSchedule{}), item.value().get<int>()) << item.key();
  NoiseSchedule brief;
  brief.train_steps = 20;
  EXPECT_EQ(usual_steps(Sampler::kDpmSolver, brief), 20);
}

TEST(Samplers, RefuseWhatIsOutsideTheirRange) {
  const NoiseSchedule schedule;
  const auto status = [&](Sampler sampler, int steps, double eta) {
    return golden::outcome([&] { sampler_rows(sampler, schedule, steps, eta, Spacing::kLeading); }).status;
  };
  EXPECT_EQ(status(Sampler::kDdim, 50, 1), SEGGD_OK);
  EXPECT_EQ(status(Sampler::kDdim, 0, 0), SEGGD_OPTION);
  EXPECT_EQ(status(Sampler::kDdim, 1001, 0), SEGGD_OPTION);
  EXPECT_EQ(status(Sampler::kDpmSolver, 1001, 0), SEGGD_OPTION);
  EXPECT_EQ(status(Sampler::kDdim, 50, 1.5), SEGGD_OPTION);
  EXPECT_EQ(status(Sampler::kDdim, 50, NAN), SEGGD_OPTION);
  EXPECT_EQ(status(Sampler::kDdpm, 50, 0.5), SEGGD_OPTION);
  const RowTable table = sampler_rows(Sampler::kDdim, schedule, 10, 0, Spacing::kTrailing);
  for (const double at : {0.0, -1.0, 1.1, 0.05, static_cast<double>(NAN)})
    EXPECT_EQ(golden::outcome([&] { entry_step(table, schedule, at); }).status, SEGGD_OPTION) << at;
}

}  // namespace
