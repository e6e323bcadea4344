"""Cost of samplers, steps and engines, with stand-ins that draw as well as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.grey_hearts import heart_dataset, trained_segmenter

pytest.importorskip("monai", reason="needs the extra `eval`")

from seggd_rt.diffusion import Precision, Sampler
from seggd_rt.engine import EngineInfo
from seggd_rt.errors import OptionError
from seggd_training.evaluation.measures import (
    Cases,
    Contender,
    Cost,
    CostRow,
    CostStudy,
    Estimate,
    Setting,
    choose_cases,
    default_grid,
    parse_grid,
)


def engine(name: str = "one") -> EngineInfo:
    return EngineInfo(name, "1", "cpu", "a CPU", Precision.FP32, threads=None)


def estimate(mean: float, half: float = 0.1) -> Estimate:
    return Estimate(mean=mean, low=mean - half, high=mean + half, count=3)


def row(sampler: Sampler, steps: int, dice: float, frechet: float, **changes: Any) -> CostRow:
    settings: dict[str, Any] = {
        "setting": Setting(sampler=sampler, steps=steps, engine=engine()), "dice": estimate(0.8),
        "dice_change": estimate(dice), "frechet": estimate(0.2), "frechet_change": estimate(frechet), "psnr_db": None,
        "seconds_per_image": 1.0, "time_ratio": 1.0,
    }  # fmt: skip
    return CostRow(**settings | changes)


@pytest.fixture(scope="module")
def cases() -> Cases:
    return choose_cases(heart_dataset(12, seed=1))


class Drawer:
    """Draws each mask's real image, with more noise the fewer steps there are, and records its calls."""

    def __init__(self, cases: Cases, name: str = "one") -> None:
        self.cases, self.name = cases, name
        self.calls: list[tuple[int, tuple[int, ...]]] = []

    def __call__(self, mask: NDArray[np.uint8], /, *, seeds: Sequence[int], steps: int | None) -> NDArray[np.float32]:
        assert steps is not None
        self.calls.append((steps, tuple(seeds)))
        which = [next(i for i, m in enumerate(self.cases.label_maps) if np.array_equal(m, one)) for one in mask]
        noise = np.random.default_rng(seeds[0]).normal(0, 2 / steps, self.cases.images[which].shape)
        return (self.cases.images[which] + noise).clip(0, 1).astype(np.float32)


def contender(drawer: Drawer, sampler: Sampler, steps: int) -> Contender:
    return Contender(Setting(sampler=sampler, steps=steps, engine=engine(drawer.name)), drawer)


def test_a_setting_stands_beside_the_base(cases: Cases) -> None:
    base = contender(Drawer(cases), Sampler.DDIM, 50)
    images = base.draw(cases.label_maps, seeds=[1] * 12, steps=50)
    study = CostStudy(trained_segmenter()[0], cases, base, images, seed=0, batch=5)
    bad, drawn = study.measure(contender(Drawer(cases), Sampler.DPM_SOLVER, 4), images)
    assert drawn.shape == cases.images.shape
    assert bad.dice_change.mean < -0.05 and bad.frechet_change.mean > 0
    assert bad.dice.mean == pytest.approx(bad.dice_change.mean + study.measure(base, None)[0].dice.mean, abs=0.02)
    assert bad.psnr_db is not None and 5 < bad.psnr_db.mean < 20
    good, _ = study.measure(contender(Drawer(cases), Sampler.DDIM, 100), images)
    assert good.as_good and good.psnr_db is not None and good.psnr_db.mean > bad.psnr_db.mean
    assert not bad.as_good


def test_samplers_that_add_noise_have_no_psnr_and_times_are_in_turn(cases: Cases) -> None:
    drawer = Drawer(cases)
    base = contender(drawer, Sampler.DDIM, 50)
    images = base.draw(cases.label_maps, seeds=[1] * 12, steps=50)
    study = CostStudy(trained_segmenter()[0], cases, base, images, seed=0, batch=2)
    drawer.calls.clear()
    found, _ = study.measure(contender(drawer, Sampler.DDPM, 7), images)
    assert found.psnr_db is None and found.time_ratio > 0 and found.seconds_per_image > 0
    assert [steps for steps, _ in drawer.calls] == [7, 50] * 5 + [7], "the base takes turns for five batches"
    assert drawer.calls[0][1] == drawer.calls[1][1]


def test_enough_steps_are_the_fewest_from_which_on_all_are_as_good() -> None:
    rows = (
        row(Sampler.DDIM, 100, -0.3, 0),  # more than the base has: no matter
        row(Sampler.DDIM, 50, 0.05, -0.05),
        row(Sampler.DDIM, 25, 0, 0.2),  # its distance is worse
        row(Sampler.DDIM, 10, 0, 0),  # by chance as good
        row(Sampler.DPM_SOLVER, 20, 0, 0),
        row(Sampler.DPM_SOLVER, 10, -0.3, 0),
        row(Sampler.DDPM, 10, -0.3, 0),
        row(
            Sampler.DPM_SOLVER, 5, 0, 0, setting=Setting(sampler=Sampler.DPM_SOLVER, steps=5, engine=engine("another"))
        ),
    )
    cost = Cost(base=rows[1].setting, rows=rows)
    assert cost.enough() == {Sampler.DDIM: 50, Sampler.DPM_SOLVER: 20}
    assert cost.find(rows[2].setting) is rows[2]
    assert cost.find(Setting(sampler=Sampler.DDIM, steps=7, engine=engine())) is None


def test_a_grid_is_read_or_refused() -> None:
    assert parse_grid("ddim:50,25 dpm-solver++:20 ddim:50") == (
        (Sampler.DDIM, 50), (Sampler.DDIM, 25), (Sampler.DPM_SOLVER, 20),
    )  # fmt: skip
    assert (Sampler.DDPM, 1000) in parse_grid(default_grid(1000))
    assert default_grid(50) == "ddim:50,25,15,10 dpm-solver++:25,20,15,12,10,8,5 ddpm:50"
    for text in ("", "ddim", "ddim:", "ddim:0", "ddim:5,", "euler:5", "ddim:-5", "ddim:1.5"):
        with pytest.raises(OptionError, match="--grid"):
            parse_grid(text)
