"""`seggd-rt train`: train a segmentation-guided diffusion model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seggd_cli.command_line import portable_command
from seggd_cli.options import AxisName, SegmentMap, Threshold, axis_of, range_of, size_of
from seggd_rt import terminal
from seggd_rt.diffusion import MaskEncoding, Prediction
from seggd_rt.errors import OptionError
from seggd_rt.optional import require


def train(
    data: Annotated[Path, typer.Option(help="A folder with images/{train,val} and masks/all/{train,val}, or an .npz.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoints, log and samples.")],
    classes: Annotated[
        str | None, typer.Option(help="Names of all labels from 0, background first: a,b,c. Folders need it.")
    ] = None,
    image_size: Annotated[str | None, typer.Option(help="Resize to N or HxW.")] = None,
    intensity_range: Annotated[
        str | None, typer.Option(help="LO,HI: the values in the files that are black and white; others are clipped.")
    ] = None,
    axis: AxisName = None,
    segments: SegmentMap = None,
    threshold: Threshold = None,
    network: Annotated[str, typer.Option(help="tiny, small, reference, or a JSON file.")] = "small",
    init: Annotated[
        Path | None, typer.Option(help="Start from this checkpoint's weights; image sizes may differ.")
    ] = None,
    mask_encoding: Annotated[
        MaskEncoding, typer.Option(help="How labels become mask channels.")
    ] = MaskEncoding.ONE_HOT,
    ablation: Annotated[bool, typer.Option(help="Train each image on a random subset of its classes.")] = True,
    empty_subset: Annotated[float, typer.Option(help="Probability of training the empty mask.")] = 0.0,
    augment: Annotated[bool, typer.Option(help="Rotate, scale and shift image and mask a little.")] = False,
    prediction: Annotated[Prediction, typer.Option(help="What the network estimates.")] = Prediction.EPSILON,
    min_snr: Annotated[float | None, typer.Option(help="Gamma of the min-SNR loss weighting.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Images a process takes at a time.")] = 16,
    accumulate: Annotated[int, typer.Option(help="Batches a step adds up.")] = 1,
    lr: Annotated[float, typer.Option(help="Learning rate after the warm-up, before the cosine.")] = 1e-4,
    warmup_steps: Annotated[int, typer.Option(help="Steps over which the rate rises.")] = 500,
    weight_decay: Annotated[float, typer.Option(help="AdamW's.")] = 0.01,
    clip_norm: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = 1.0,
    ema_decay: Annotated[float, typer.Option(help="Decay of the weights' moving average.")] = 0.9999,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    seed: Annotated[int, typer.Option(help="Of weights, order, noise, timesteps and subsets.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    sample_every: Annotated[int, typer.Option(help="Steps between sample grids; 0 for none.")] = 500,
    validate_every: Annotated[int, typer.Option(help="Steps between validations; 0 for none.")] = 200,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 200,
    stop_after: Annotated[int | None, typer.Option(help="Stop at this step of --steps, to resume later.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the output folder's run stopped.")] = False,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, kept in the checkpoint.")] = None,
    training_data: Annotated[str | None, typer.Option(help="Name of the data, kept in the checkpoint.")] = None,
) -> None:
    """Train a network that draws images from masks, or go on training it."""
    for module in ("torch", "diffusers", "accelerate", "tensorboard"):
        require(module, extra="train", feature="seggd-rt train")
    from seggd_rt.imaging.dicom import parse_map
    from seggd_training.loop import Precision, TrainOptions
    from seggd_training.loop import train as run

    try:
        precision = Precision(mixed_precision)
    except ValueError as error:
        raise OptionError(f"--mixed-precision is '{mixed_precision}'; it must be no, bf16 or fp16") from error
    options = TrainOptions(
        data=data,
        output=output,
        classes=tuple(classes.split(",")) if classes is not None else None,
        image_size=size_of(image_size),
        intensity_range=range_of(intensity_range),
        axis=axis_of(axis),
        segments=parse_map(segments or ()),
        threshold=threshold,
        network=network,
        init=init,
        encoding=mask_encoding,
        ablation=ablation,
        empty_subset=empty_subset,
        augment=augment,
        prediction=prediction,
        min_snr=min_snr,
        steps=steps,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        ema_decay=ema_decay,
        mixed_precision=precision,
        seed=seed,
        threads=threads,
        sample_every=sample_every,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        stop_after=stop_after,
        resume=resume,
        licence=licence,
        training_data=training_data,
    )
    outcome = run(options, command=portable_command())
    if outcome.checkpoint is not None and outcome.step < steps:
        why = "stopped" if outcome.signal is None else "interrupted"
        terminal.say(f"{why}: saved at step {outcome.step} in {output}: --resume continues")
    elif outcome.checkpoint is not None:
        terminal.result(str(outcome.checkpoint))
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)
