"""The generator: shapes, seeds, settings and errors, on a network that needs no engine."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import OneHotWarning, derive_seed, normal
from seggd_rt.engine import NetworkShape, Step
from seggd_rt.errors import DataError, EngineError, LabelMapError, OptionError
from tests.bundles import TINY, TINY_RGB
from tests.engines.analytic import AnalyticNetwork

BUNDLE = Bundle.open(TINY)
MASK = BUNDLE.golden.label_map
SHAPE = NetworkShape(1, 3, 24, 32)


@pytest.fixture
def generator() -> Iterator[seggd_rt.Generator]:
    """The analytic network under the tiny bundle's manifest."""
    with seggd_rt.Generator(BUNDLE, AnalyticNetwork(SHAPE, std=0.3)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("masks", "arguments", "shape"),
    [
        (MASK, {}, (24, 32)),
        (MASK.tolist(), {}, (24, 32)),
        (MASK[None], {}, (1, 24, 32)),
        (np.stack([MASK, MASK]), {}, (2, 24, 32)),
        (MASK, {"seeds": [1, 2, 3]}, (3, 24, 32)),
        (np.stack([MASK, MASK]), {"seeds": [1, 2]}, (2, 24, 32)),
        (MASK, {"noise": np.zeros((1, 24, 32), np.float32)}, (24, 32)),
        (MASK, {"noise": np.zeros((2, 1, 24, 32))}, (2, 24, 32)),
        (MASK[None], {"seeds": [1, 2]}, (2, 24, 32)),
        (MASK, {"seeds": (seed for seed in [1, 2])}, (2, 24, 32)),
    ],
)
def test_shapes(generator: seggd_rt.Generator, masks: object, arguments: dict[str, object], shape: object) -> None:
    images = generator(masks, steps=2, **arguments)  # type: ignore[arg-type]
    assert images.shape == shape
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.usefixtures("needs_onnxruntime")
def test_rgb_has_channels_last() -> None:
    with seggd_rt.load(TINY_RGB, engine="onnxruntime", threads=1) as rgb:
        mask = rgb.bundle.golden.label_map
        assert rgb(mask, steps=2).shape == (16, 20, 3)
        assert rgb(mask, seeds=[1, 2], steps=2).shape == (2, 16, 20, 3)


@settings(max_examples=15, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), eta=st.sampled_from([0.0, 0.5, 1.0]))
def test_an_image_depends_on_its_seed_alone(seeds: list[int], eta: float) -> None:
    with seggd_rt.Generator(BUNDLE, AnalyticNetwork(SHAPE, std=0.3)) as generator:
        together = generator(MASK, seeds=seeds, steps=3, eta=eta)
        for seed, image in zip(seeds, together, strict=True):
            np.testing.assert_array_equal(generator(MASK, seed=seed, steps=3, eta=eta), image)


def test_one_seed_of_many_masks_is_derived(generator: seggd_rt.Generator) -> None:
    masks = np.stack([MASK, MASK[::-1]])
    seeds = [derive_seed(5, 0), derive_seed(5, 1)]
    np.testing.assert_array_equal(generator(masks, seed=5, steps=3), generator(masks, seeds=seeds, steps=3))


def test_the_start_noise_of_a_seed_may_be_given(generator: seggd_rt.Generator) -> None:
    given_noise = generator(MASK, noise=normal(7, (1, 24, 32)), steps=3)
    np.testing.assert_array_equal(given_noise, generator(MASK, seed=7, steps=3))


def test_keep_and_drop_are_the_same_choice(generator: seggd_rt.Generator) -> None:
    kept = generator(MASK, keep=["myocardium", "right ventricle"], steps=3)
    np.testing.assert_array_equal(kept, generator(MASK, drop=["Cavity"], steps=3))
    np.testing.assert_array_equal(kept, generator(np.where(MASK == 1, 0, MASK), steps=3))


def test_writes_into_the_callers_memory(generator: seggd_rt.Generator) -> None:
    out = np.full((2, 24, 32), np.nan, np.float32)
    images = generator(MASK, seeds=[1, 2], steps=3, out=out)
    assert images is out
    np.testing.assert_array_equal(out, generator(MASK, seeds=[1, 2], steps=3))


def test_steps_default_to_the_bundles_and_are_told(generator: seggd_rt.Generator) -> None:
    seen: list[Step] = []
    generator(MASK, on_step=seen.append)
    assert len(seen) == BUNDLE.manifest.defaults.steps


def test_a_mask_without_foreground_is_warned_about(generator: seggd_rt.Generator) -> None:
    with pytest.warns(seggd_rt.EmptyMaskWarning, match="which this network was not trained with"):
        generator(np.zeros((24, 32), np.uint8), steps=1)
    with pytest.warns(seggd_rt.EmptyMaskWarning):
        generator((MASK == 1).astype(np.uint8), drop=["cavity"], steps=1)
    generator.warmup(batch=2)  # its own empty masks are not warned about


@pytest.mark.parametrize(
    ("mask", "arguments", "error", "message"),
    [
        (MASK.astype(float), {}, LabelMapError, "integers"),
        (MASK[:, :31], {}, LabelMapError, "resize_nearest"),
        (MASK[None, None], {}, LabelMapError, "must be"),
        (MASK + 9, {}, LabelMapError, "outside the classes"),
        (MASK, {"steps": 0}, OptionError, "steps is 0"),
        (MASK, {"steps": 1001}, OptionError, "steps is 1001"),
        (MASK, {"steps": 5.0}, OptionError, "steps is 5.0"),
        (MASK, {"steps": True}, OptionError, "steps is True"),
        (MASK, {"eta": -0.1}, OptionError, "eta"),
        (MASK, {"eta": ""}, OptionError, r"eta is invalid \(.*\): give a number"),
        (MASK, {"guidance": "2"}, OptionError, r"guidance is invalid \(.*\): give a number"),
        (MASK, {"sampler": ""}, OptionError, "there is no sampler"),
        (MASK, {"spacing": ""}, OptionError, "there is no spacing"),
        (MASK, {"seed": -1}, OptionError, "seed is -1"),
        (MASK, {"seed": 1.5}, OptionError, "seed is 1.5"),
        (MASK, {"seed": True}, OptionError, "seed is True"),
        (MASK, {"seeds": []}, OptionError, "there are 0 seeds"),
        (MASK, {"seeds": 5}, OptionError, "seeds is 5"),
        (np.stack([MASK] * 3), {"seeds": [1, 2]}, OptionError, "3 masks and 2 seeds"),
        (np.stack([MASK] * 3), {"seeds": [1]}, OptionError, "1 seed for 3 images"),
        (MASK, {"keep": ["lung"]}, OptionError, "no class 'lung'"),
        (MASK, {"keep": []}, OptionError, "keep names no class"),
        (MASK, {"noise": np.zeros((2, 24, 32), np.float32)}, DataError, "noise must be"),
        (MASK, {"noise": np.zeros((1, 24, 32), int)}, DataError, "noise must be"),
        (MASK, {"noise": np.full((1, 24, 32), np.inf)}, DataError, "finite"),
        (MASK, {"noise": np.full((1, 24, 32), 1e300)}, DataError, "finite in float32"),
        (MASK, {"out": np.zeros((24, 31), np.float32)}, DataError, "out must be"),
        (MASK, {"out": np.zeros((24, 32))}, DataError, "out must be"),
        (MASK, {"out": [0.0]}, DataError, "out must be"),
        (MASK, {"out": np.zeros((32, 24), np.float32).T}, DataError, "out is not contiguous"),
        (MASK, {"out": np.broadcast_to(np.float32(0), (24, 32))}, DataError, "out is read-only"),
        (MASK, {"seed": 0, "seeds": [1]}, OptionError, "seed and seeds exclude each other"),
        (MASK == 1, {}, LabelMapError, "1 for cavity, 2 for myocardium, 3 for right ventricle"),
        (np.stack([MASK] * 3, axis=-1), {}, LabelMapError, "has an axis of 3 last"),
    ],
)
def test_bad_arguments(
    generator: seggd_rt.Generator, mask: NDArray[np.uint8], arguments: dict[str, object], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        generator(mask, **arguments)  # type: ignore[arg-type]


def test_a_stack_of_classes_is_warned_about(generator: seggd_rt.Generator) -> None:
    one_hot = (np.arange(4)[:, None, None] == MASK).astype(np.uint8)
    for stack in (one_hot, one_hot[1:]):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert generator(stack, steps=1).shape == (len(stack), 24, 32)
        assert [w.category for w in warned].count(OneHotWarning) == 1
        assert f"a stack of {len(stack)} label maps of zeros and ones looks one-hot" in str(warned[0].message)
        assert warned[0].filename == __file__


def test_it_says_what_it_draws(generator: seggd_rt.Generator) -> None:
    info = generator.engine
    assert repr(generator) == f"<Generator of tiny, 1x24x32: {info.engine} in {info.precision} on {info.device}>"


def test_threads_share_it(generator: seggd_rt.Generator) -> None:
    expected = {seed: generator(MASK, seed=seed, steps=5) for seed in range(4)}
    wrong: list[int] = []

    def work(seed: int) -> None:
        wrong.extend(seed for _ in range(5) if not np.array_equal(generator(MASK, seed=seed, steps=5), expected[seed]))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_sessions_are_used_again_and_the_network_is_closed() -> None:
    network = AnalyticNetwork(SHAPE)
    with seggd_rt.Generator(BUNDLE, network) as generator:
        for _ in range(3):
            generator(MASK, steps=1)
            generator(MASK, seeds=[1, 2], steps=1)
    assert network.bound == 2
    assert network.closed


def test_few_sessions_are_kept() -> None:
    network = AnalyticNetwork(SHAPE)
    with seggd_rt.Generator(BUNDLE, network) as generator:
        for batch in [*range(1, 21), 20]:
            generator(MASK, seeds=range(batch), steps=1)
        assert network.bound == 20  # the latest are kept
        generator(MASK, steps=1)
        assert network.bound == 21  # the first are not
        assert len(generator._pool._idle) < 10


def test_sessions_of_four_batch_sizes_are_kept() -> None:
    """For each batch size the engine holds one compiled graph, so only few sizes are kept."""
    network = AnalyticNetwork(SHAPE)
    with seggd_rt.Generator(BUNDLE, network) as generator:
        for batch in [1, 2, 3, 4, 5, 2, 3, 4, 5]:
            generator(MASK, seeds=range(batch), steps=1)
        assert network.bound == 5
        generator(MASK, seeds=range(1), steps=1)
        assert network.bound == 6


def test_a_call_that_fails_leaves_nothing_behind(generator: seggd_rt.Generator) -> None:
    def stop(step: Step) -> NoReturn:
        raise InterruptedError

    expected = generator(MASK, seed=1, steps=3, eta=1.0)
    with pytest.raises(InterruptedError):
        generator(MASK, seed=2, steps=3, eta=1.0, on_step=stop)
    np.testing.assert_array_equal(generator(MASK, seed=1, steps=3, eta=1.0), expected)


def test_closed_is_closed(generator: seggd_rt.Generator) -> None:
    generator(MASK, steps=1)
    generator.close()
    generator.close()
    with pytest.raises(EngineError, match="is closed: load the bundle again"):
        generator(MASK, steps=1)


def test_closing_waits_for_the_calls_of_other_threads() -> None:
    network = AnalyticNetwork(SHAPE, std=0.3)
    generator = seggd_rt.Generator(BUNDLE, network)
    expected = generator(MASK, seed=3, steps=3)
    begun, closed = threading.Event(), threading.Event()
    images = []

    def wait(step: Step) -> None:
        begun.set()
        assert closed.wait(10)

    thread = threading.Thread(target=lambda: images.append(generator(MASK, seed=3, steps=3, on_step=wait)))
    thread.start()
    assert begun.wait(10)
    generator.close()
    assert not network.closed
    closed.set()
    thread.join()
    assert network.closed
    np.testing.assert_array_equal(images[0], expected)
