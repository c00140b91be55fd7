"""NVIDIA's checkpoints as a Network: every layout that is in circulation, and a clear no to everything else.

A checkpoint is untrusted input. It is unpickled with `weights_only=True`, which builds tensors and containers and calls
nothing, and only after the sizes that its archive claims were found to be plausible.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seresnext_export.errors import UnusableCheckpoint
from seresnext_export.network import SE_RESNEXT101_32X4D, Architecture, Network

MAX_BYTES = 2 << 30  # a training checkpoint holds the weights, their EMA and a momentum: 0.6 GB
NAMED = 3  # names of tensors that a message lists before it counts
STAGE = re.compile(r"^layer([1-4])\.")


def load(path: Path, *, ema: bool = False, architecture: Architecture = SE_RESNEXT101_32X4D) -> Network:
    """Return the FP32, evaluation-mode network of the checkpoint at `path`; raises UnusableCheckpoint.

    With `ema`, the averaged weights that a training checkpoint holds beside the last ones.
    """
    content = _read(path)
    state = _state_dict(content, path, ema=ema)
    return network_from(state, str(path), architecture)


def network_from(state: Mapping[str, Tensor], source: str, architecture: Architecture = SE_RESNEXT101_32X4D) -> Network:
    """Return the network with the weights `state`, whatever the spelling of their names."""
    with torch.device("meta"):
        network = Network(architecture).eval()
    wanted = network.state_dict()
    found = {_renamed(name): tensor for name, tensor in state.items()}
    found = {name: _reshaped(tensor, wanted.get(name)) for name, tensor in found.items()}
    _require_same(found, wanted, source)
    network.load_state_dict({name: found[name].to(tensor.dtype) for name, tensor in wanted.items()}, assign=True)
    return network.requires_grad_(requires_grad=False)


def _read(path: Path) -> Any:
    """Return what a file holds, which is not executed on the way."""
    _require_plausible(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = (
            f"{path} is not a checkpoint that can be trusted: it holds more than tensors, or is no pickle at all. "
            "Save its state_dict() with torch.save and use that"
        )
        raise UnusableCheckpoint(message) from error
    except Exception as error:
        raise UnusableCheckpoint(_damaged(path)) from error


def _require_plausible(path: Path) -> None:
    """Refuse what is not there, is no file, or claims to hold more than a checkpoint of this network does."""
    try:
        with path.open("rb") as file:
            magic = file.read(8)
        size = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(entry.file_size for entry in archive.infolist()))
    except FileNotFoundError as error:
        raise UnusableCheckpoint(f"no checkpoint at {path}") from error
    except OSError as error:
        raise UnusableCheckpoint(f"cannot read the checkpoint {path}: {error.strerror}") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UnusableCheckpoint(_damaged(path)) from error
    if not magic:
        raise UnusableCheckpoint(f"{path} is empty: download the checkpoint again")
    if size > MAX_BYTES:
        raise UnusableCheckpoint(f"{path} claims to hold {size / 1e9:.1f} GB: a checkpoint has 0.2 to 0.6")


def _damaged(path: Path) -> str:
    return f"{path} is not a checkpoint, or is cut short: download it again, or give the file that torch.save wrote"


def _state_dict(content: Any, path: Path, *, ema: bool) -> Mapping[str, Tensor]:
    """Return the weights in a checkpoint: a state dict, or what a training saved around it."""
    if not isinstance(content, Mapping):
        raise UnusableCheckpoint(f"{path} holds a {type(content).__name__}, not the state dict of a network")
    nested = "state_dict" in content
    if ema and "ema_state_dict" not in content:
        raise UnusableCheckpoint(f"{path} holds no EMA weights: leave --ema out")
    state = content["ema_state_dict"] if ema else content["state_dict"] if nested else content
    if not isinstance(state, Mapping) or not state:
        raise UnusableCheckpoint(f"{path} holds no weights")
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor) or not isinstance(name, str)]
    if others:
        raise UnusableCheckpoint(f"{path} is not the state dict of a network: {_list(others)} are no tensors")
    return state


def _renamed(name: str) -> str:
    """Return today's name of a tensor: without DistributedDataParallel's prefix, stages counted from 0."""
    return STAGE.sub(lambda match: f"layers.{int(match[1]) - 1}.", name.removeprefix("module."))


def _reshaped(tensor: Tensor, wanted: Tensor | None) -> Tensor:
    """Return the weight of a linear layer that was written as one of a 1x1 convolution (the `trt=True` variant)."""
    if wanted is not None and tensor.ndim == 4 and wanted.ndim == 2 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    return tensor


def _require_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of another network, and say how it differs."""
    problems = []
    if missing := [name for name in wanted if name not in found]:
        problems.append(f"{_list(missing)} missing")
    if unexpected := [name for name in found if name not in wanted]:
        problems.append(f"{_list(unexpected)} unexpected")
    shapes = [
        f"{name} is {tuple(found[name].shape)} and should be {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(_list(shapes))
    if problems:
        message = f"{source} holds the weights of another network than SE-ResNeXt101-32x4d: {'; '.join(problems)}"
        raise UnusableCheckpoint(message)
    if broken := [name for name, tensor in found.items() if not torch.isfinite(tensor).all()]:
        raise UnusableCheckpoint(f"{source} is damaged: {_list(broken)} not finite")


def _list(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
