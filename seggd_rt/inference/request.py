"""What a caller asks for, checked: arrays of the host or of a GPU, seeds, and how many images they make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.diffusion import check_label_map, check_region, check_seed, derive_seed
from seggd_rt.engine import DeviceArray
from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.gpu import is_guest, view

HostOrDevice = NDArray[Any] | DeviceArray


def is_whole(number: object) -> bool:
    """Say whether a value is a whole number, NumPy's among them, and no truth value."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


@dataclass(frozen=True)
class Inputs:
    """What an engine on one device can be given for a bundle.

    Attributes
    ----------
    manifest
        The bundle's.
    device
        Where the engine runs: "cpu", "cuda:0".
    stream
        The handle of the caller's stream, for arrays in the GPU's memory.
    """

    manifest: Manifest
    device: str
    stream: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an image as the network sees it, (C, H, W)."""
        image = self.manifest.image
        return image.channels, image.height, image.width

    def shapes(self, count: int, *, batched: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape of images as a session writes them, (N, H, W, C), and as the caller sees them."""
        channels, height, width = self.image_shape
        shape: tuple[int, ...] = (count, height, width, channels)
        visible = shape[:3] if channels == 1 else shape
        return shape, visible if batched else visible[1:]

    def label_maps(self, mask: ArrayLike) -> HostOrDevice:
        """Return label maps, (H, W) or (N, H, W) uint8.

        Raises
        ------
        LabelMapError
            They have the wrong type, size or, in host memory, labels.
        """
        size = self.image_shape[1:]
        if is_guest(mask):
            guest = self._guest(mask, "mask")
            if guest.dtype != np.uint8 or len(guest.shape) not in (2, 3) or guest.shape[-2:] != size:
                raise LabelMapError(f"a mask in a GPU's memory must be uint8 {size} or (N, *{size}); {_said(guest)}")
            return guest
        label_maps = check_label_map(mask, self.manifest.classes)
        if label_maps.ndim > 3 or label_maps.shape[-2:] != size:
            raise LabelMapError(
                f"the mask has shape {label_maps.shape}; this bundle draws {size[0]}x{size[1]}, so it must be "
                f"{size} or (N, {size[0]}, {size[1]}): seggd_rt.diffusion.labels.resize_nearest resizes label maps"
            )
        return label_maps

    def noise(self, noise: ArrayLike | None) -> HostOrDevice | None:
        """Return noise, (C, H, W) or (N, C, H, W) float32.

        Raises
        ------
        DataError
            It has the wrong type or shape or, in host memory, is not finite.
        """
        if noise is None:
            return None
        shape = self.image_shape
        if is_guest(noise):
            guest = self._guest(noise, "noise")
            if guest.dtype != np.float32 or len(guest.shape) not in (3, 4) or guest.shape[-3:] != shape:
                raise DataError(f"noise in a GPU's memory must be float32 {shape} or (N, *{shape}); {_said(guest)}")
            return guest
        array = np.asarray(noise)
        if array.dtype.kind != "f" or array.ndim not in (3, 4) or array.shape[-3:] != shape:
            raise DataError(f"noise must be float32 {shape} or (N, *{shape}); it is {array.dtype} {array.shape}")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise DataError("noise must be finite in float32")
        return array

    def real(self, real: ArrayLike) -> NDArray[np.float32]:
        """Return a real image as the network sees it, (C, H, W) float32 in [-1, 1].

        Raises
        ------
        DataError
            It has the wrong type or shape, or values outside [0, 1].
        """
        channels, height, width = self.image_shape
        shapes = [(height, width, channels)] + [(height, width)] * (channels == 1)
        array = np.asarray(real)
        if array.shape not in shapes or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
            raise DataError(
                f"a real image must be float in [0, 1] or uint8, {' or '.join(map(str, shapes))}; it is {array.dtype} "
                f"{array.shape}"
            )
        pixels = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise DataError("a real image of floats must lie in [0, 1]: scale it first")
        return np.moveaxis(pixels.reshape(shapes[0]) * 2 - 1, -1, 0).astype(np.float32)

    def region(self, region: ArrayLike) -> NDArray[np.float32]:
        """Return a region as weights, (H, W) float32: 1 inside, 0 outside.

        Raises
        ------
        DataError
            It has the wrong shape, is empty, or has other values than `seggd_rt.diffusion.labels.check_region` takes.
        """
        size, array = self.image_shape[1:], np.asarray(region)
        if array.shape != size:
            raise DataError(f"the region has the wrong shape {array.shape}: give {size}")
        inside = check_region(array)
        if not inside.any():
            raise DataError("the region is empty: there is nothing to draw in it")
        return inside.astype(np.float32)

    def output(self, out: object, visible: tuple[int, ...]) -> HostOrDevice:
        """Return the caller's array for images of a shape, float32 or uint8.

        Raises
        ------
        DataError
            It is not writable or contiguous, or has the wrong type or shape.
        """
        if is_guest(out):
            guest = self._guest(out, "out", writable=True)
            if guest.dtype not in (np.float32, np.uint8) or guest.shape != visible:
                raise DataError(f"out must be float32 or uint8 {visible}; {_said(guest)}")
            return guest
        if not isinstance(out, np.ndarray):
            raise DataError(f"out must be a NumPy array, or one in a GPU's memory; it is a {type(out).__name__}")
        if out.shape != visible or out.dtype not in (np.float32, np.uint8):
            raise DataError(f"out must be float32 or uint8 {visible}; it is {out.dtype} {out.shape}")
        if not out.flags.writeable:
            raise DataError("out is read-only: give an array that may be written")
        if not out.flags.c_contiguous:
            raise DataError("out is not contiguous, as a part or a transpose of an array is: give a whole array")
        return out

    def _guest(self, array: object, name: str, *, writable: bool = False) -> DeviceArray:
        if not self.device.startswith("cuda"):
            raise DataError(f"{name} is in a GPU's memory and the engine runs on the {self.device}: give a NumPy array")
        guest = view(array, name, self.stream, writable=writable, device=self.device)
        if guest.device != self.device:
            raise DataError(f"{name} is on {guest.device} and the engine runs on {self.device}: move it there")
        return guest


def stack(array: HostOrDevice, count: int, axes: int) -> HostOrDevice:
    """Return an array with an axis of images in front: of the host `count` of them, of a GPU as many as it has."""
    shape = array.shape[-axes:]
    if isinstance(array, DeviceArray):
        images = math.prod(array.shape[:-axes])
        return DeviceArray(array.address, (images, *shape), array.dtype, array.device, array.owner)
    return np.broadcast_to(array, (count, *shape))


def agree(counts: dict[str, int]) -> int:
    """Return how many images are asked for: what is given once serves all.

    Raises
    ------
    OptionError
        Two numbers differ, or one is 0.
    """
    if 0 in counts.values():
        raise OptionError(f"there are 0 {min(counts, key=lambda name: counts[name])}: give at least one")
    many = {name: count for name, count in counts.items() if count > 1}
    if len(set(many.values())) > 1:
        listed = " and ".join(f"{count} {name}" for name, count in many.items())
        raise OptionError(f"there are {listed}: give one for each image, or one for all")
    return max(many.values(), default=1)


def listed_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Return seeds as a tuple.

    Raises
    ------
    OptionError
        There is one number alone.
    """
    try:
        return tuple(seeds)
    except TypeError as error:
        raise OptionError(
            f"seeds is {seeds!r}; it must list one seed for each image: give seed for one alone"
        ) from error


def image_seeds(seed: int | None, seeds: Sequence[int] | None, count: int, *, single: bool) -> tuple[int, ...]:
    """Return the seed of every image: those given; or the one of a single image, of several derived from it.

    Raises
    ------
    OptionError
        There are fewer than images, one is no seed, or both `seed` and `seeds` are given.
    """
    if seed is not None and seeds is not None:
        raise OptionError("seed and seeds exclude each other: give one seed for each image, or the seed of the call")
    if seeds is None:
        seed = 0 if seed is None else seed
        return (check_seed(seed),) if single else tuple(derive_seed(seed, i) for i in range(count))
    if len(seeds) != count:
        raise OptionError(f"there is 1 seed for {count} images: give one seed an image")
    return tuple(check_seed(s) for s in seeds)


def _said(guest: DeviceArray) -> str:
    return f"it is {guest.dtype} {guest.shape}"
