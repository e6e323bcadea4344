"""The training loop: draw, denoise, step, average; report, validate, save, and stop cleanly.

A step's work is a pure function of the state before it and of its number, so a run that is stopped, killed or
resumed gives the weights of one that was not. Accelerate places the network and averages its gradients; all states
are saved here, as tensors and plain values.
"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from seggd_export.checkpoint import Checkpoint, CheckpointConfig, Provenance
from seggd_rt.diffusion import mask_channels
from seggd_rt.errors import CheckpointError, DataError, OptionError, OutputError
from seggd_rt.files import check_regular, write_file
from seggd_rt.imaging import Reading, png_bytes
from seggd_rt.runs import check_apart
from seggd_rt.wording import counted
from seggd_training.data import Batch, Batches, Dataset, Split, keyed_seed, load_dataset
from seggd_training.data import check_apart as check_patients_apart
from seggd_training.loop.config import Precision, TrainOptions, check_same_run
from seggd_training.loop.ema import MovingAverage
from seggd_training.loop.initial_weights import load_initial_weights
from seggd_training.loop.interrupt import noted_signals
from seggd_training.loop.loss import Objective
from seggd_training.loop.networks import build_unet, unet_config
from seggd_training.loop.progress import Reporter
from seggd_training.loop.resume import OptimizerState, ResumeState, fingerprint
from seggd_training.loop.samples import sample_grid

_FILES = ("best.pt", "last.pt", "resume.pt", "log.jsonl")
_LOG_EVERY = 10
_VALIDATION_BATCH = 32
_AUTOCAST = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    step
        The steps done.
    signal
        What stopped it, if a signal did.
    checkpoint
        The best checkpoint by validation loss, the last where none was validated; None on all processes but the first.
    """

    step: int
    signal: int | None = None
    checkpoint: Path | None = None


def train(options: TrainOptions, *, command: str | None = None) -> Outcome:
    """Train a network, or go on training it.

    Writes `last.pt`, `best.pt` (by validation loss), `resume.pt`, `log.jsonl`, `tensorboard/` and `samples/` to
    the output folder.

    Parameters
    ----------
    options
        The run.
    command
        The command line, for the checkpoint's provenance.

    Raises
    ------
    OptionError
        An option contradicts the data, the run to resume, or the machine.
    DataError
        The data cannot be trained on.
    OutputError
        The output folder cannot be written.
    """
    resume_path = options.output / "resume.pt"
    if options.resume and not resume_path.exists():
        raise OptionError(f"there is no {resume_path} to resume: leave --resume out to start")
    if not options.resume and resume_path.exists():
        raise OptionError(f"{resume_path} is there already: give --resume to go on, or another -o")
    for name in () if options.resume else ("best.pt", "last.pt"):
        if (options.output / name).is_symlink():
            check_regular(options.output / name)
        if (options.output / name).exists():
            raise OutputError(f"{options.output / name} is there already: delete it, or give another -o")
    for name in ("", *_FILES):
        check_apart(options.output / name, None, options.data, options.init)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    train_set, val_set = (
        load_dataset(
            options.data,
            split=split,
            image_size=options.image_size,
            classes=options.classes,
            intensity_range=options.intensity_range,
            reading=Reading(axis=options.axis, segments=options.segments, threshold=options.threshold),
        )
        for split in (Split.TRAIN, Split.VAL)
    )
    _check_alike(train_set, val_set, options.data)
    check_patients_apart(train_set, val_set)
    _warn_of_absent_classes(train_set)
    try:
        (options.output / "samples").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=options.output):
            pass  # an old folder may be read-only, which is better known before training than after
    except OSError as error:
        raise OutputError(f"{options.output} cannot be written: {error.strerror}") from error
    for name in _FILES:
        check_regular(options.output / name)
    return _Run(options, train_set, val_set, command).train()


class _Run:
    """The state of one run: network, optimiser, average, and how far they are."""

    def __init__(self, options: TrainOptions, train_set: Dataset, val_set: Dataset, command: str | None) -> None:
        self._options, self._val_set, self._command = options, val_set, command
        self._accelerator = Accelerator(mixed_precision="no")  # autocast and scaling are ours, to save their state
        self._device: torch.device = self._accelerator.device
        self._world: int = self._accelerator.num_processes
        self._schedule = options.schedule()
        self._objective = Objective(self._schedule, min_snr=options.min_snr, device=self._device)
        self._config = _checkpoint_config(options, train_set)
        self._batches = Batches(
            train_set,
            options.encoding,
            seed=options.seed,
            train_steps=self._schedule.train_steps,
            ablation=options.ablation,
            empty_subset=options.empty_subset,
            augment=options.augment,
        )
        self._val_batches = Batches(
            val_set,
            options.encoding,
            seed=options.seed,
            train_steps=self._schedule.train_steps,
            ablation=False,
            shuffle=False,
        )
        self._data_hash = fingerprint(train_set)

        torch.manual_seed(options.seed)
        self._network: nn.Module = build_unet(self._config.unet)
        if options.init is not None:
            load_initial_weights(self._network, self._config, options.init)
        self._network.to(self._device)
        self._ema = MovingAverage(self._network, options.ema_decay)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=options.lr, weight_decay=options.weight_decay
        )
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=options.mixed_precision is Precision.FP16)
        self._step, self._elapsed_s = 0, 0.0
        self._best: float | None = None
        self._saved_step = -1
        if options.resume:
            path = options.output / "resume.pt"
            self._restore(ResumeState.load(path), path)
        self._parallel: nn.Module = self._accelerator.prepare_model(self._network)

    def train(self) -> Outcome:
        """Train to the last step asked for, or until a signal comes."""
        options, is_main = self._options, self._accelerator.is_main_process
        last = min(options.steps, options.stop_after or options.steps)
        with (
            noted_signals() as noted,
            Reporter(options.output, steps=options.steps, start=self._step, enabled=is_main) as reporter,
        ):
            reporter.say(self._summary(len(self._batches), len(self._val_batches)))
            before, began = self._elapsed_s, time.monotonic()
            losses: list[float] = []
            while self._step < last and not self._stopped(noted):
                loss, norm = self._update()
                if not math.isfinite(loss):
                    raise OptionError(
                        f"training diverged: the loss of step {self._step + 1} is {loss}. "
                        "Start again with a lower --lr, or without --mixed-precision fp16"
                    )
                self._step += 1
                self._elapsed_s = before + time.monotonic() - began
                losses.append(loss)
                reporter.step(self._step, loss)
                if is_main:
                    self._report(reporter, losses, norm)
            if is_main and self._saved_step != self._step:
                self._save()
        best = options.output / ("last.pt" if self._best is None else "best.pt")
        return Outcome(self._step, signal=noted[0] if noted else None, checkpoint=best if is_main else None)

    def _update(self) -> tuple[float, float]:
        """Take one step of the optimiser, and return the loss and the gradient's norm before clipping."""
        options = self._options
        # For dropout, should the network have any: all else draws from generators of its own.
        torch.manual_seed(keyed_seed(options.seed, "step", self._step, self._accelerator.process_index))
        self._network.train()
        total = torch.zeros((), device=self._device)
        for part in range(options.accumulate):
            batch = self._draw(part)
            is_last = part == options.accumulate - 1
            with nullcontext() if is_last else self._accelerator.no_sync(self._parallel):
                loss = self._loss(self._parallel, batch).mean() / options.accumulate
                torch.autograd.backward(self._scaler.scale(loss))
            total += loss.detach()
        for group in self._optimizer.param_groups:
            group["lr"] = options.learning_rate(self._step)
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), options.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._ema.update(self._step)
        mean: Tensor = self._accelerator.reduce(total, reduction="mean")
        return mean.item(), norm.item()

    def _draw(self, part: int) -> Batch:
        """Draw this process's share of one part of a step."""
        size = self._options.batch_size
        share = (self._step * self._options.accumulate + part) * self._world + self._accelerator.process_index
        return self._place(self._batches.draw(share * size, size))

    def _place(self, batch: Batch) -> Batch:
        return Batch(*(tensor.to(self._device, non_blocking=True) for tensor in batch))

    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return each image's loss, (B,) float32."""
        x_t = self._objective.add_noise(batch.x0, batch.eps, batch.t)
        with self._autocast():
            output = network(torch.cat([x_t, batch.mask], dim=1), batch.t).sample
        return self._objective.loss(output, batch.x0, batch.eps, batch.t)

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        dtype = _AUTOCAST.get(self._options.mixed_precision)
        return nullcontext() if dtype is None else torch.autocast(self._device.type, dtype)

    def _report(self, reporter: Reporter, losses: list[float], norm: float) -> None:
        """Log, validate, sample and save where it is time to; `losses` are those since the last log, and emptied."""
        options, step = self._options, self._step

        def due(every: int) -> bool:
            return every > 0 and (step % every == 0 or step == options.steps)

        figures = {}
        if due(_LOG_EVERY):
            figures = {
                "loss": math.fsum(losses) / len(losses),
                "grad_norm": norm,
                "lr": options.learning_rate(step - 1),
            }
            losses.clear()
        if due(options.validate_every):
            figures["val_loss"] = self._validate()
        if figures:
            reporter.scalars(step, {"images": self._images_seen, **figures, "seconds": round(self._elapsed_s, 1)})
        if due(options.sample_every):
            grid = self._sample()
            write_file(options.output / "samples" / f"{step:07d}.png", png_bytes(Image.fromarray(grid)))
            reporter.image(step, grid)
        if "val_loss" in figures and (self._best is None or figures["val_loss"] < self._best):
            self._best = figures["val_loss"]
            self._checkpoint(self._best).save(options.output / "best.pt")
        if due(options.checkpoint_every):
            self._save()

    def _summary(self, num_train: int, num_val: int) -> str:
        millions = sum(p.numel() for p in self._network.parameters()) / 1e6
        where = str(self._device) + (f" and {self._world - 1} more" if self._world > 1 else "")
        return f"{millions:.2f} M parameters on {where}; {num_train} training and {num_val} validation images"

    @property
    def _images_seen(self) -> int:
        return self._step * self._options.batch_size * self._options.accumulate * self._world

    @torch.no_grad()
    def _validate(self) -> float:
        """Return the averaged network's mean loss over the validation images, at fixed noise and timesteps."""
        self._network.eval()
        total, size = 0.0, len(self._val_batches)
        with self._ema.applied():
            for start in range(0, size, _VALIDATION_BATCH):
                batch = self._val_batches.draw(start, min(_VALIDATION_BATCH, size - start))
                total += self._loss(self._network, self._place(batch)).sum().item()
        return total / size

    def _sample(self) -> NDArray[np.uint8]:
        self._network.eval()
        with self._ema.applied(), self._autocast():
            return sample_grid(
                self._network, self._schedule, self._val_set, self._options.encoding, device=self._device
            )

    def _checkpoint(self, val_loss: float | None) -> Checkpoint:
        options = self._options
        provenance = Provenance(
            training_data=options.training_data,
            licence=options.licence,
            step=self._step,
            images_seen=self._images_seen,
            seed=options.seed,
            command=self._command,
            val_loss=val_loss,
        )
        return Checkpoint(
            config=msgspec.structs.replace(self._config, provenance=provenance),
            weights=_contiguous(self._network.state_dict()),
            ema=_contiguous(self._ema.state_dict()),
        )

    def _save(self) -> None:
        self._checkpoint(None).save(self._options.output / "last.pt")
        ResumeState(
            options=self._options.binding(),
            data=self._data_hash,
            step=self._step,
            best_val_loss=self._best,
            elapsed_s=self._elapsed_s,
            world_size=self._world,
            weights=self._network.state_dict(),
            optimizer=cast(OptimizerState, self._optimizer.state_dict()),
            ema=self._ema.state_dict(),
            scaler=self._scaler.state_dict(),
        ).save(self._options.output / "resume.pt")
        self._saved_step = self._step

    def _restore(self, state: ResumeState, path: Path) -> None:
        check_same_run(state.options, self._options)
        if state.data != self._data_hash:
            raise OptionError(f"{self._options.data} has changed since the run to resume began: start another")
        if state.world_size != self._world:
            raise OptionError(f"the run to resume had {state.world_size} processes, this one has {self._world}")
        if state.step > self._options.steps:
            raise CheckpointError(
                f"{path} is past the last step ({state.step}, --steps is {self._options.steps}): "
                "start another run in a new folder"
            )
        _check_tensors(path, "weights", state.weights, self._network.state_dict())
        _check_tensors(path, "moving average", state.ema, self._ema.state_dict())
        # The groups' settings are this run's options, and its rate follows from the step: only the moments are read.
        moments = _moments_of(path, state, list(self._network.parameters()))
        if state.scaler.keys() != self._scaler.state_dict().keys():
            raise CheckpointError(
                f"{path} has a gradient scaler that does not fit this run: start another run in a new folder"
            )
        self._network.load_state_dict(state.weights)
        self._optimizer.load_state_dict(
            {"state": moments, "param_groups": self._optimizer.state_dict()["param_groups"]}
        )
        self._ema.load_state_dict(state.ema)
        self._scaler.load_state_dict(state.scaler)
        self._step, self._best, self._elapsed_s = state.step, state.best_val_loss, state.elapsed_s

    def _stopped(self, noted: list[int]) -> bool:
        """Return whether any process has noted a signal: all must stop at one step."""
        if self._world == 1:
            return bool(noted)
        flag = torch.tensor(float(bool(noted)), device=self._device)
        return bool(self._accelerator.reduce(flag, reduction="sum").item())


def _check_tensors(path: Path, what: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Refuse tensors of other names, shapes or types than the network's."""
    odd = sorted(found.keys() ^ wanted.keys()) or [
        name
        for name, tensor in wanted.items()
        if (found[name].shape, found[name].dtype) != (tensor.shape, tensor.dtype)
    ]
    if odd:
        raise CheckpointError(f"{path} has {what} of another network ('{odd[0]}'): start another run in a new folder")


def _moments_of(path: Path, state: ResumeState, parameters: list[nn.Parameter]) -> dict[int, dict[str, Tensor]]:
    """Return AdamW's moments of every parameter, none before the first step."""
    found = state.optimizer["state"]
    wanted = {
        index: {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
        for index, parameter in enumerate(parameters if state.step else ())
    }
    if found.keys() != wanted.keys():
        raise CheckpointError(f"{path} lacks the optimizer's state of some weights: start another run in a new folder")
    for index, tensors in wanted.items():
        _check_tensors(path, f"optimizer states of weight {index}", found[index], tensors)
    return found


class AbsentClassWarning(UserWarning):
    """A class that no training mask shows cannot be learnt."""


def _check_alike(train_set: Dataset, val_set: Dataset, path: Path) -> None:
    (*size, channels), (*val_size, val_channels) = train_set.images.shape[1:], val_set.images.shape[1:]
    if channels != val_channels:
        raise DataError(
            f"{path} has training images of {counted(channels, 'channel')} and validation images of {val_channels}: "
            "convert all images to grey, or all to RGB"
        )
    if size != val_size:
        raise DataError(
            f"{path} has training images of {size[0]}x{size[1]} and validation images of {val_size[0]}x{val_size[1]}: "
            "give --image-size, or images of one size"
        )


def _warn_of_absent_classes(dataset: Dataset) -> None:
    present = set(np.unique(dataset.label_maps).tolist())
    if absent := [f"{c.id} {c.name}" for c in dataset.classes[1:] if c.id not in present]:
        warnings.warn(
            f"no training mask shows {', '.join(absent)}: the network cannot learn to draw it. Check the names' order "
            "(background first) and the masks' values",
            AbsentClassWarning,
            stacklevel=3,
        )


def _checkpoint_config(options: TrainOptions, dataset: Dataset) -> CheckpointConfig:
    height, width, channels = dataset.images.shape[1:]
    masks = mask_channels(options.encoding, len(dataset.classes))
    return CheckpointConfig(
        unet=unet_config(options.network, image_channels=channels, mask_channels=masks, size=(height, width)),
        image_channels=channels,
        height=height,
        width=width,
        classes=dataset.classes,
        encoding=options.encoding,
        schedule=options.schedule(),
        ablation=options.ablation,
        empty_subset=options.empty_subset,
        intensity_range=options.intensity_range,
    )


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
