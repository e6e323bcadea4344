"""Weights from files, safely: tensors by name, and never anything that runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from seggd_export.checkpoint import check_plain, load_weights_only
from seggd_export.source import StateDict
from seggd_rt.errors import CheckpointError
from seggd_rt.files import open_regular

_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of DataParallel and of torch.compile."""
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of attention layers before diffusers 0.15."""


def read_weights(path: Path) -> object:
    """Return what a `.safetensors`, `.pt`, `.pth` or `.bin` file holds, on the CPU.

    Raises
    ------
    CheckpointError
        It is missing or damaged, or is a pickle that needs more than weights.
    """
    if path.suffix != ".safetensors":
        return load_weights_only(path)
    try:
        with open_regular(path) as file:
            content = load(file.read())  # a mapped file that somebody truncates ends the process by a signal
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}): give a readable file") from error
    # The others: what safetensors raises for types and shapes that PyTorch does not have.
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path} is damaged or is no safetensors file: {error}") from error
    check_plain(path, content)
    return content


def as_state_dict(content: object, path: Path) -> StateDict:
    """Return a state dict in float32 and in diffusers' names, without the prefixes of wrappers.

    Raises
    ------
    CheckpointError
        The content is not a table of tensors by name.
    """
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds a {type(content).__name__}; it must be a state dict, tensors by name")
    strange = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise CheckpointError(
            f"{path} is no state dict: '{strange[0]}' is no tensor. Save the network's state_dict() alone"
        )
    state = {str(name): tensor for name, tensor in content.items()}
    for prefix in (*_WRAPPERS, *_WRAPPERS):  # each may wrap the other
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {
        _modern(name): tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def _modern(name: str) -> str:
    parts = name.split(".")
    if "attentions" in parts[:-2] and parts[-2] in _OLD_ATTENTION:
        parts[-2] = _OLD_ATTENTION[parts[-2]]
    return ".".join(parts)
