"""The training loop: settings, network, loss, averaged weights, checkpoints, samples."""

from seggd_training.loop.config import Precision, TrainOptions
from seggd_training.loop.ema import MovingAverage
from seggd_training.loop.networks import build_unet, unet_config
from seggd_training.loop.resume import fingerprint
from seggd_training.loop.trainer import train

__all__ = ["MovingAverage", "Precision", "TrainOptions", "build_unet", "fingerprint", "train", "unet_config"]
