"""Ablation, interpolation, translation, region edits, guidance and previews, on the CPU and on an emulated GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import Sampler, Stream, encode, encode_table, normal, usual_steps
from seggd_rt.diffusion.samplers import USUAL_STEPS
from seggd_rt.engine import NetworkShape
from seggd_rt.errors import DataError, OptionError
from seggd_rt.inference import AblationWarning, Drawing, Generator
from tests.bundles import TINY, TINY_RGB
from tests.engines.analytic import AnalyticNetwork
from tests.engines.cuda.emulated import EmulatedNetwork

SHAPES = {TINY: NetworkShape(1, 3, 24, 32), TINY_RGB: NetworkShape(3, 1, 16, 20)}
SAMPLERS = [Sampler.DDIM, Sampler.DPM_SOLVER]
Make = Callable[..., Generator]


@pytest.fixture(params=["cpu", "cuda:0"])
def make(request: pytest.FixtureRequest) -> Make:
    """Make a generator around a network that knows the answer, in host memory or on an emulated GPU."""

    def make(std: float = 0.3, *, empty: bool = False, ablation: bool = True) -> Generator:
        bundle = Bundle.open(TINY)
        mask = replace_struct(bundle.manifest.mask, trained_with_empty_mask=empty, trained_with_ablation=ablation)
        bundle = replace(bundle, manifest=replace_struct(bundle.manifest, mask=mask))
        network = AnalyticNetwork(SHAPES[TINY], background=-0.2, levels=(0.1, 0.2, 0.3), std=std)
        network.schedule = bundle.manifest.schedule
        network.info = replace(network.info, device=request.param)
        return Generator(bundle, network if request.param == "cpu" else EmulatedNetwork(network))

    return make


def replace_struct(struct: Any, **changes: Any) -> Any:
    import msgspec.structs

    return msgspec.structs.replace(struct, **changes)


@pytest.fixture
def mask(golden_mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return golden_mask


@pytest.fixture
def real() -> NDArray[np.float32]:
    return np.random.default_rng(7).uniform(0, 1, (24, 32)).astype(np.float32)


def mu(label_map: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The answer, as pixels in [0, 1]."""
    table = encode_table(Bundle.open(TINY).manifest.mask.encoding, 4)
    network = AnalyticNetwork(SHAPES[TINY], background=-0.2, levels=(0.1, 0.2, 0.3))
    return network.mu(encode(label_map, table))[0] / 2 + 0.5


class TestInterpolation:
    @pytest.mark.parametrize("sampler", list(Sampler))
    def test_weight_0_is_the_plain_generation_exactly(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32], sampler: Sampler
    ) -> None:
        generator = make()
        plain = generator(mask, seed=3, steps=20, sampler=sampler)
        mixed = generator.interpolate(mask, real, weight=[0, 0.5], at=0.6, seed=3, steps=20, sampler=sampler)
        np.testing.assert_array_equal(mixed[0], plain)
        assert np.abs(mixed[1] - plain).max() > 0.005

    def test_each_weight_is_what_it_is_alone(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]
    ) -> None:
        generator = make()
        weights = [0, 0.25, 0.5, 1]
        together = generator.interpolate(mask, real, weight=weights, seed=3, steps=10, eta=0.5)
        for weight, image in zip(weights, together, strict=True):
            alone = generator.interpolate(mask, real, weight=weight, seed=3, steps=10, eta=0.5)
            np.testing.assert_array_equal(alone, image)

    def test_the_more_weight_the_nearer_to_the_real_image(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]
    ) -> None:
        images = make(std=1.0).interpolate(mask, real, weight=[0, 0.25, 0.5, 0.75, 1], at=0.3, steps=50)
        likeness = [float(np.corrcoef(image.ravel(), real.ravel())[0, 1]) for image in images]
        assert likeness == sorted(likeness)
        assert likeness[0] < 0.1 < 0.3 < likeness[-1]

    def test_weight_1_is_a_translation(self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]) -> None:
        generator = make()
        mixed = generator.interpolate(mask, real, weight=1, at=0.5, seed=3, steps=20)
        np.testing.assert_array_equal(mixed, generator.translate(real, mask, at=0.5, seed=3, steps=20))

    @pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_similarity_grows_with_the_weight(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32], at: float, sampler: Sampler
    ) -> None:
        weights = np.linspace(0, 1, 6)
        images = make().interpolate(mask, real, weight=weights, at=at, seed=3, steps=20, sampler=sampler)
        # Noise of its own would make the mixture less noisy than either, and its middle the smoothest.
        errors = ((images - real) ** 2).mean(axis=(1, 2))
        assert (np.diff(errors) < 0).all(), errors

    def test_the_second_part_may_have_classes_of_its_own(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]
    ) -> None:
        generator = make(std=0.0)  # what it ends in is the last mask's alone
        name = generator.manifest.classes[2].name
        found = generator.interpolate(mask, real, weight=0.5, steps=20, then_drop=[name])
        np.testing.assert_allclose(found, mu(np.where(mask == 2, 0, mask)), atol=1e-3)
        found = generator.interpolate(mask, real, weight=0.5, steps=20, drop=[name], then_keep=[name])
        np.testing.assert_allclose(found, mu(np.where(mask == 2, 2, 0).astype(np.uint8)), atol=1e-3)

    def test_1_is_before_the_first_step(self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]) -> None:
        generator = make()
        plain, mixed = generator.interpolate(mask, real, weight=[0, 0.9], at=1, steps=10)
        np.testing.assert_array_equal(plain, generator(mask, steps=10))
        assert np.abs(mixed - plain).max() > 1e-3

    @pytest.mark.parametrize("at", [0.0, 1.01, -0.1, float("nan")])
    def test_where_to_mix_lies_among_the_steps(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32], at: float
    ) -> None:
        with pytest.raises(OptionError, match="at is"):
            make().interpolate(mask, real, at=at, steps=10)
        with pytest.raises(OptionError, match="the last step of this run is at"):
            make().interpolate(mask, real, at=0.01, steps=10, sampler="dpm-solver++")

    @pytest.mark.parametrize("weight", [-0.1, 1.1, [], [0.5, 2], float("nan"), [[0.5]]])
    def test_weights_lie_between_0_and_1(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32], weight: Any
    ) -> None:
        with pytest.raises(OptionError, match="weight"):
            make().interpolate(mask, real, weight=weight, steps=10)

    @pytest.mark.parametrize(
        "image",
        [np.zeros((24, 33)), np.zeros((24, 32), np.int32), np.full((24, 32), 1.5), np.full((24, 32), np.nan)],
    )
    def test_what_is_no_real_image(self, make: Make, mask: NDArray[np.uint8], image: NDArray[Any]) -> None:
        with pytest.raises(DataError, match="real image"):
            make().interpolate(mask, image, steps=10)

    def test_a_real_image_may_be_bytes(self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]) -> None:
        pixels = np.rint(real * 255).astype(np.uint8)
        generator = make()
        found = generator.interpolate(mask, pixels, steps=10)
        np.testing.assert_allclose(found, generator.interpolate(mask, pixels / np.float32(255), steps=10), atol=1e-6)


class TestTranslation:
    def test_the_start_is_the_real_image_noised_by_the_seed(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]
    ) -> None:
        generator = make()
        a = generator.manifest.schedule.alpha_bar()[500]
        noise = normal(3, (1, 24, 32), stream=Stream.START)
        start = np.float32(np.sqrt(a)) * (real * 2 - 1) + np.float32(np.sqrt(1 - a)) * noise[0]
        found = next(iter_from(generator, mask, real, at=0.5))
        # The exact estimate of x0 from that start.
        expected = generator._pool.network
        network = getattr(expected, "network", expected)
        mean = (mu(mask) - 0.5) * 2
        gain = network.std**2 * np.sqrt(a) / (a * network.std**2 + 1 - a)
        x0 = mean + gain * (start - np.sqrt(a) * mean)
        np.testing.assert_allclose(found, np.clip(x0, -1, 1) / 2 + 0.5, atol=1e-5)

    def test_a_little_noise_leaves_the_image(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]
    ) -> None:
        generator = make(std=1.0)
        near, far = (generator.translate(real, mask, at=at, steps=50) for at in (0.03, 0.9))
        assert np.abs(near - real).mean() < 0.05 < 0.2 < np.abs(far - real).mean()

    def test_seeds_make_several(self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]) -> None:
        generator = make()
        images = generator.translate(real, mask, seeds=[1, 2], steps=10)
        np.testing.assert_array_equal(images[1], generator.translate(real, mask, seed=2, steps=10))


def iter_from(generator: Generator, mask: NDArray[np.uint8], real: NDArray[np.float32], *, at: float) -> Any:
    """Yield the estimate after one step of a translation."""
    runs = []
    draw = generator._draw

    def caught(run: Any, *rest: Any, **named: Any) -> Any:
        runs.append(run)
        return draw(run, *rest, **named)

    generator._draw = caught  # type: ignore[method-assign]
    generator.translate(real, mask, at=at, seed=3, steps=10)
    with generator.acquire(1) as session:
        session.start(runs[0])
        session.advance(1)
        look = np.zeros((1, 24, 32, 1), np.float32)
        session.preview(look)
        yield look[0, ..., 0]


class TestRegionEdit:
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_outside_the_region_the_image_stays(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32], sampler: Sampler
    ) -> None:
        region = np.zeros((24, 32), bool)
        region[5:15, 8:20] = True
        found = make().inpaint(real, region, mask, seed=3, steps=20, sampler=sampler)
        np.testing.assert_allclose(found[~region], real[~region], atol=1e-6)
        assert np.abs(found - real)[region].mean() > 0.1

    def test_everywhere_is_the_plain_generation(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]
    ) -> None:
        generator = make()
        found = generator.inpaint(real, np.ones((24, 32)), mask, seed=3, steps=20)
        np.testing.assert_array_equal(found, generator(mask, seed=3, steps=20))

    def test_inside_it_follows_the_mask(self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]) -> None:
        region = np.zeros((24, 32))
        region[:, 10:] = 1
        found = make(std=0.0).inpaint(real, region, mask, steps=20)
        np.testing.assert_allclose(found[:, 10:], mu(mask)[:, 10:], atol=1e-3)

    def test_an_empty_region_is_refused(self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32]) -> None:
        with pytest.raises(DataError, match="empty"):
            make().inpaint(real, np.zeros((24, 32), bool), mask, steps=5)

    @pytest.mark.parametrize("inside", [np.True_, np.uint8(1), np.uint8(255), np.float32(1)])
    def test_a_region_is_booleans_or_0_and_1_or_255(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32], inside: Any
    ) -> None:
        region = np.tri(24, 32, dtype=bool)
        found = make().inpaint(real, np.where(region, inside, 0).astype(inside.dtype), mask, seed=3, steps=5)
        np.testing.assert_array_equal(found, make().inpaint(real, region, mask, seed=3, steps=5))

    @pytest.mark.parametrize(
        "region", [np.ones((24, 33)), np.full((24, 32), 2.0), np.full((24, 32), 0.5), np.full((24, 32), "x")]
    )
    def test_what_is_no_region(
        self, make: Make, mask: NDArray[np.uint8], real: NDArray[np.float32], region: NDArray[Any]
    ) -> None:
        with pytest.raises(DataError, match="region"):
            make().inpaint(real, region, mask, steps=5)


class TestGuidance:
    def test_it_goes_on_from_the_ablated_prediction(self, make: Make, mask: NDArray[np.uint8]) -> None:
        generator = make(std=0.0)
        name = generator.manifest.classes[2].name
        found = generator(mask, steps=1, guidance=0.5, against=[name])
        full, ablated = mu(mask), mu(np.where(mask == 2, 0, mask).astype(np.uint8))
        np.testing.assert_allclose(found, full + 0.5 * (full - ablated), atol=1e-3)

    def test_0_takes_one_lane(self, make: Make, mask: NDArray[np.uint8]) -> None:
        generator = make()
        np.testing.assert_array_equal(generator(mask, steps=5, guidance=0.0), generator(mask, steps=5))
        assert [session.lanes for session in generator._pool._idle] == [1]
        generator(mask, steps=5, guidance=1.0, against=[generator.manifest.classes[1].name])
        assert [session.lanes for session in generator._pool._idle] == [1, 2]

    def test_the_empty_mask_must_have_been_trained(self, make: Make, mask: NDArray[np.uint8]) -> None:
        with pytest.raises(OptionError, match="empty mask"):
            make()(mask, steps=2, guidance=1.0)
        found = make(std=0.0, empty=True)(mask, steps=1, guidance=0.5)
        full, ablated = mu(mask), mu(np.zeros_like(mask))
        np.testing.assert_allclose(found, full + 0.5 * (full - ablated), atol=1e-3)

    def test_against_every_class_is_against_the_empty_mask(self, make: Make, mask: NDArray[np.uint8]) -> None:
        names = [c.name for c in make().manifest.classes[1:]]
        with pytest.raises(OptionError, match="every class"):
            make()(mask, steps=2, guidance=1.0, against=names)
        with pytest.raises(OptionError, match="left out of the mask already"):
            make()(mask, steps=2, guidance=1.0, against=names[:1], drop=names[:1])
        with pytest.raises(OptionError, match="guidance is 0"):
            make()(mask, steps=2, against=names[:1])
        with pytest.raises(OptionError, match="finite"):
            make()(mask, steps=2, guidance=float("inf"), against=names[:1])


class TestPreviews:
    @pytest.mark.parametrize("every", [1, 4, 10, 99])
    def test_the_last_is_the_image(self, make: Make, mask: NDArray[np.uint8], every: int) -> None:
        generator = make()
        seen = list(generator.stream(mask, every=every, seed=3, steps=10))
        assert [preview.done for preview in seen] == sorted({*range(every, 10, every), 10})
        np.testing.assert_array_equal(seen[-1].image, generator(mask, seed=3, steps=10))

    def test_leaving_the_loop_ends_the_run(self, make: Make, mask: NDArray[np.uint8]) -> None:
        generator = make()
        for preview in generator.stream(mask, every=2, steps=10):
            assert preview.done == 2
            break
        np.testing.assert_array_equal(generator(mask, steps=5), make()(mask, steps=5))

    def test_wrong_calls_are_refused_at_once(self, make: Make, mask: NDArray[np.uint8]) -> None:
        with pytest.raises(OptionError, match="every"):
            make().stream(mask, every=0)
        with pytest.raises(OptionError, match="one image"):
            make().stream(np.stack([mask, mask]))


class TestSweep:
    def test_every_subset_from_the_same_noise(self, make: Make, mask: NDArray[np.uint8]) -> None:
        generator = make()
        names = [c.name for c in generator.manifest.classes[1:]]
        images = generator.sweep(mask, seed=3, steps=5, batch=3)
        assert len(images) == 7
        assert next(iter(images)) == tuple(names)
        for kept, image in images.items():
            np.testing.assert_array_equal(image, generator(mask, seed=3, steps=5, keep=kept))

    def test_classes_are_the_sweeps_own_choice(self, make: Make, mask: NDArray[np.uint8]) -> None:
        with pytest.raises(OptionError, match="neither keep nor drop"):
            make().sweep(mask, keep=["x"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sampler": "euler"}, "there is no sampler 'euler': there are ddim"),
        ({"sampler": "dpm-solver"}, r"did you mean 'dpm-solver\+\+'"),
        ({"spacing": "even"}, "there is no spacing 'even'"),
        ({"colour": 1}, "there is no setting 'colour'"),
        ({"steps": 2.5}, "whole number"),
        ({"sampler": "ddpm", "eta": 0.5}, "only the sampler ddim"),
    ],
)
def test_unknown_settings_are_refused(make: Make, mask: NDArray[np.uint8], how: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()(mask, **how)


@pytest.mark.parametrize("sampler", list(Sampler))
def test_every_sampler_ends_in_the_answer(make: Make, mask: NDArray[np.uint8], sampler: Sampler) -> None:
    found = make(std=0.0)(mask, sampler=sampler, steps=50)
    np.testing.assert_allclose(found, mu(mask), atol=2e-3)


def test_a_network_of_whole_masks_is_no_ground_for_ablation(make: Make, mask: NDArray[np.uint8]) -> None:
    generator = make(ablation=False)
    name = generator.manifest.classes[1].name
    with pytest.warns(AblationWarning, match="whole masks"):
        generator(mask, steps=2, drop=[name])
    with pytest.raises(OptionError, match="never saw one without"):
        generator(mask, steps=2, guidance=1.0, against=[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generator(mask, steps=2)


def test_a_sampler_takes_the_bundles_steps_or_its_usual_ones() -> None:
    manifest = Bundle.open(TINY).manifest

    def steps(sampler: str | None) -> int:
        return len(Drawing.resolve(manifest, {"sampler": sampler}).table)

    assert manifest.defaults.sampler is Sampler.DDIM
    assert steps(None) == steps("ddim") == manifest.defaults.steps
    for sampler in set(Sampler) - {Sampler.DDIM}:
        assert steps(sampler) == USUAL_STEPS[sampler]
    assert usual_steps(Sampler.DPM_SOLVER, replace_struct(manifest.schedule, train_steps=20)) == 20
