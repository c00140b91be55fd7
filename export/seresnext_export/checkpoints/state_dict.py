"""Loads NVIDIA's checkpoints: every layout that is in circulation, and an error that says how anything else differs.

A checkpoint is untrusted input. It is unpickled with `weights_only=True`, which creates tensors and containers and
calls nothing else, and only if the sizes that its archive claims are plausible.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seresnext_export.errors import InvalidCheckpoint
from seresnext_export.network import SE_RESNEXT101_32X4D, Architecture, Network

MAX_BYTES = 2 << 30  # a training checkpoint holds the weights, their EMA and a momentum: 0.6 GB
MAX_NAMES = 3  # of tensors in a message, which counts the others
# The averaged weights: as NVIDIA's trainer writes them, and as its checkpoint2model.py reads them.
EMA_KEYS = ("state_dict_ema", "ema_state_dict")
STAGE = re.compile(r"^layer([1-4])\.")


def load_checkpoint(path: Path, *, ema: bool = False, architecture: Architecture = SE_RESNEXT101_32X4D) -> Network:
    """Return the FP32, evaluation-mode network of the checkpoint at `path`.

    With `ema`, the averaged weights that a training checkpoint holds beside the last ones. Raises InvalidCheckpoint.
    """
    state = _state_dict(_read(path), path, ema=ema)
    return network_from(state, str(path), architecture)


def network_from(state: Mapping[str, Tensor], source: str, architecture: Architecture = SE_RESNEXT101_32X4D) -> Network:
    """Return the network with the weights `state`, under today's names of tensors or older ones.

    `source` names the checkpoint in an error. Raises InvalidCheckpoint.
    """
    with torch.device("meta"):
        network = Network(architecture).eval()
    expected = network.state_dict()
    renamed = {_current_name(name): tensor for name, tensor in state.items()}
    tensors = {name: _as_linear(tensor, expected.get(name)) for name, tensor in renamed.items()}
    _check_tensors(tensors, expected, source)
    network.load_state_dict({name: tensors[name].to(tensor.dtype) for name, tensor in expected.items()}, assign=True)
    return network.requires_grad_(requires_grad=False)


def _read(path: Path) -> Any:
    """Return the content of a file, without executing anything in it."""
    _check_plausible(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = (
            f"{path} is not a checkpoint that can be trusted: it holds more than tensors, or is not a pickle at all. "
            "Save its state_dict() with torch.save and use that"
        )
        raise InvalidCheckpoint(message) from error
    except Exception as error:
        raise InvalidCheckpoint(_damaged(path)) from error


def _check_plausible(path: Path) -> None:
    """Raise InvalidCheckpoint for a file that is missing, empty, or claims to hold more than a checkpoint does."""
    try:
        with path.open("rb") as file:
            magic = file.read(8)
        size = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(entry.file_size for entry in archive.infolist()))
    except FileNotFoundError as error:
        raise InvalidCheckpoint(f"no checkpoint at {path}") from error
    except OSError as error:
        raise InvalidCheckpoint(f"cannot read the checkpoint {path}: {error.strerror}") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InvalidCheckpoint(_damaged(path)) from error
    if not magic:
        raise InvalidCheckpoint(f"{path} is empty: download the checkpoint again")
    if size > MAX_BYTES:
        raise InvalidCheckpoint(f"{path} claims to hold {size / 1e9:.1f} GB: a checkpoint has 0.2 to 0.6")


def _damaged(path: Path) -> str:
    return f"{path} is not a checkpoint, or is truncated: download it again, or use the file that torch.save wrote"


def _state_dict(content: Any, path: Path, *, ema: bool) -> Mapping[str, Tensor]:
    """Return the weights in a checkpoint: a state dict, alone or beside the rest of a training's state."""
    if not isinstance(content, Mapping):
        raise InvalidCheckpoint(f"{path} holds a {type(content).__name__}, not the state dict of a network")
    state = _averaged(content, path) if ema else content.get("state_dict", content)
    if not isinstance(state, Mapping) or not state:
        raise InvalidCheckpoint(f"{path} holds no weights")
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor) or not isinstance(name, str)]
    if others:
        raise InvalidCheckpoint(f"{path} is not the state dict of a network: {_list(others)} are not tensors")
    return state


def _averaged(content: Mapping[Any, Any], path: Path) -> Any:
    for key in EMA_KEYS:
        if key in content:
            return content[key]
    raise InvalidCheckpoint(f"{path} holds no averaged (EMA) weights: neither {' nor '.join(EMA_KEYS)}")


def _current_name(name: str) -> str:
    """Return today's name of a tensor: without the prefix of DistributedDataParallel, stages counted from 0."""
    return STAGE.sub(lambda match: f"layers.{int(match[1]) - 1}.", name.removeprefix("module."))


def _as_linear(tensor: Tensor, expected: Tensor | None) -> Tensor:
    """Return the weight of a linear layer that was saved as one of a 1x1 convolution (the `trt=True` variant)."""
    if expected is not None and tensor.ndim == 4 and expected.ndim == 2 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    return tensor


def _check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Raise InvalidCheckpoint for the weights of another network, and say how they differ."""
    problems = []
    if missing := [name for name in expected if name not in tensors]:
        problems.append(f"{_list(missing)} missing")
    if unexpected := [name for name in tensors if name not in expected]:
        problems.append(f"{_list(unexpected)} unexpected")
    shapes = [
        f"{name} is {tuple(tensors[name].shape)} and should be {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(_list(shapes))
    if problems:
        message = f"{source} holds the weights of another network than SE-ResNeXt101-32x4d: {'; '.join(problems)}"
        raise InvalidCheckpoint(message)
    if invalid := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise InvalidCheckpoint(f"{source} is damaged: {_list(invalid)} not finite")


def _list(names: list[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
