"""The session on the CPU, around a network that knows the answer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_engines.host import HostSession
from seggd_rt.diffusion import (
    Column,
    MaskEncoding,
    RowTable,
    Sampler,
    ablate,
    encode,
    encode_table,
    normal,
    sampler_rows,
)
from seggd_rt.engine import Run, Step
from seggd_rt.errors import EngineError
from tests.engines.analytic import AnalyticNetwork

TABLE = encode_table(MaskEncoding.ONE_HOT, 4)
MAPS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 4, (3, 5, 7)).astype(np.uint8)


def make_run(
    network: AnalyticNetwork, *, images: list[int], steps: int = 10, eta: float = 0.0, noise: bool = False
) -> Run:
    """Describe a batch: image i has label map i and seed 10 + i."""
    return Run(
        table=sampler_rows(Sampler.DDIM, network.schedule, steps, eta=eta),
        label_maps=MAPS[images],
        encode_tables=np.stack([TABLE] * len(images))[None],
        seeds=tuple(10 + i for i in images),
        noise=np.stack([normal(10 + i, (1, 5, 7)) for i in images]) if noise else None,
    )


def draw(network: AnalyticNetwork, run: Run, session: HostSession | None = None) -> NDArray[np.float32]:
    out = np.full((len(run.seeds), 5, 7, 1), np.nan, np.float32)
    (session or HostSession(network, len(run.seeds))).run(run, out)
    return out


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_point_data_is_recovered_exactly(steps: int, eta: float) -> None:
    network = AnalyticNetwork()
    out = draw(network, make_run(network, images=[0, 1, 2], steps=steps, eta=eta))
    mu = network.mu(encode(MAPS, TABLE))[:, 0]
    # The network's first outputs are float32 and divided by sqrt(alpha_bar), 1/76.
    np.testing.assert_allclose(out[..., 0], mu / 2 + 0.5, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_an_image_does_not_depend_on_its_batch(eta: float) -> None:
    network = AnalyticNetwork(std=0.3)
    together = draw(network, make_run(network, images=[0, 1, 2], eta=eta))
    for image in range(3):
        np.testing.assert_array_equal(draw(network, make_run(network, images=[image], eta=eta))[0], together[image])


def test_a_session_forgets_its_last_run() -> None:
    network = AnalyticNetwork(std=0.3)
    session = HostSession(network, 1)
    first = draw(network, make_run(network, images=[0]), session)
    draw(network, make_run(network, images=[1], eta=1.0), session)
    np.testing.assert_array_equal(draw(network, make_run(network, images=[0]), session), first)
    assert (network.bound, session.batch) == (1, 1)


def test_given_noise_takes_the_place_of_the_seeds_draw() -> None:
    network = AnalyticNetwork(std=0.3)
    seeded, given = (draw(network, make_run(network, images=[0, 1], noise=noise)) for noise in (False, True))
    np.testing.assert_array_equal(seeded, given)


def test_an_ablated_class_is_background() -> None:
    network = AnalyticNetwork()
    run = make_run(network, images=[0])
    without = Run(run.table, run.label_maps, ablate(TABLE, [1, 3])[None, None], run.seeds)
    removed = Run(run.table, np.where(run.label_maps == 2, 0, run.label_maps), run.encode_tables, run.seeds)
    np.testing.assert_array_equal(draw(network, without), draw(network, removed))
    assert np.abs(draw(network, without) - draw(network, run)).max() > 0.1


def test_steps_are_told_and_may_stop_the_run() -> None:
    network = AnalyticNetwork()
    seen: list[Step] = []

    def stop_at_third(step: Step) -> None:
        seen.append(step)
        if step.index == 2:
            raise KeyboardInterrupt

    run = make_run(network, images=[0], steps=5)
    session, out = HostSession(network, 1), np.zeros((1, 5, 7, 1), np.float32)
    with pytest.raises(KeyboardInterrupt):
        session.run(run, out, stop_at_third)
    assert [(step.index, step.steps, step.timestep) for step in seen] == [(0, 5, 800), (1, 5, 600), (2, 5, 400)]
    np.testing.assert_allclose(
        draw(network, run, session)[..., 0], network.mu(encode(MAPS[:1], TABLE))[:, 0] / 2 + 0.5, atol=1e-4
    )


def test_an_image_that_is_not_finite_is_an_error() -> None:
    network = AnalyticNetwork(background=float("nan"))
    with pytest.raises(EngineError, match="not finite"):
        draw(network, make_run(network, images=[0]))


def test_evaluate_is_one_call() -> None:
    network = AnalyticNetwork(std=0.3)
    x, mask = normal(0, (2, 1, 5, 7)), encode(MAPS[:2], TABLE)
    found = HostSession(network, 2).evaluate(x, mask, 500)
    a = network.schedule.alpha_bar()[500]
    expected = np.sqrt(1 - a) * (x - np.sqrt(a) * network.mu(mask)) / (a * 0.09 + 1 - a)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("column", "message"), [(Column.G, "two lanes"), (Column.M, "real image")])
def test_rows_that_need_what_is_not_given_are_refused(column: Column, message: str) -> None:
    run = make_run(AnalyticNetwork(), images=[0])
    run.table.rows[:, column] = 1
    with pytest.raises(ValueError, match=message):
        Run(run.table, run.label_maps, run.encode_tables, run.seeds)


def test_guidance_extrapolates_from_the_ablated_prediction() -> None:
    network = AnalyticNetwork(background=-0.2, levels=(0.1, 0.2, 0.3))
    run = make_run(network, images=[0, 1], steps=1)
    rows = run.table.rows.copy()
    rows[:, Column.G], rows[:, Column.CLIP] = 0.5, np.inf
    tables = np.stack([run.encode_tables[0], np.stack([ablate(TABLE, [1, 3])] * 2)])
    table = RowTable(run.table.timesteps, rows)
    guided = Run(table, run.label_maps, tables, run.seeds)
    out = np.zeros((2, 5, 7, 1), np.float32)
    HostSession(network, 2, lanes=2).run(guided, out)
    full, ablated = (network.mu(np.stack([encode(MAPS[i], t) for i in (0, 1)])) for t in (TABLE, tables[1, 0]))
    # x0 is linear in the prediction, so it is extrapolated alike.
    expected = full + 0.5 * (full - ablated)
    np.testing.assert_allclose(out[..., 0], np.clip(expected / 2 + 0.5, 0, 1)[:, 0], atol=1e-4)


def test_images_of_a_batch_may_have_rows_of_their_own() -> None:
    network = AnalyticNetwork(std=0.3)
    run = make_run(network, images=[0, 1], eta=0.7)
    plain = make_run(network, images=[0, 1], eta=0.0)
    table = RowTable(run.table.timesteps, np.stack([run.table.rows, plain.table.rows]))
    mixed = draw(network, Run(table, run.label_maps, run.encode_tables, run.seeds))
    np.testing.assert_array_equal(mixed[0], draw(network, run)[0])
    np.testing.assert_array_equal(mixed[1], draw(network, plain)[1])
