"""Every layout of checkpoints that is in circulation loads to the same network; everything else is refused."""

import contextlib
import io
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.small_network import TWO_BLOCKS
from torch import Tensor

from seresnext_export.checkpoints.state_dict import EMA_KEYS, load_checkpoint
from seresnext_export.errors import InvalidCheckpoint
from seresnext_export.network import Architecture, Network

State = dict[str, Tensor]


def old_names(state: State) -> State:
    return {re.sub(r"^layers\.(\d)", lambda m: f"layer{int(m[1]) + 1}", name): tensor for name, tensor in state.items()}


def parallel(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def convolutions(state: State) -> State:
    """The `trt=True` variant."""
    squeezes = re.compile(r"\.squeeze\.(squeeze|expand)\.weight$")
    return {name: tensor[:, :, None, None] if squeezes.search(name) else tensor for name, tensor in state.items()}


def training(state: State, **averaged: State) -> dict[str, Any]:
    """Return what NVIDIA's trainer saves, with the averaged weights under some key."""
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1}]}
    rest = {"epoch": 250, "best_prec1": torch.tensor(81.0), "optimizer": optimizer, "arch": "se-resnext101-32x4d"}
    return {"state_dict": parallel(state), **averaged, **rest}


def zeros(state: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "as NGC publishes it": lambda state: parallel(old_names(state)),
    "old names": old_names,
    "checkpoint2model.py": dict,
    "training": training,
    "training with averaged weights": lambda state: training(state, state_dict_ema=zeros(state)),
    "squeezes that are convolutions": convolutions,
    "double precision": lambda state: {name: tensor.double() for name, tensor in state.items()},
}


def load(content: Any, path: Path, *, ema: bool = False) -> Network:
    torch.save(content, path)
    return load_checkpoint(path, ema=ema, architecture=TWO_BLOCKS)


def same(first: Network, second: Network) -> bool:
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_network(layout: str, small_network: Network, tmp_path: Path) -> None:
    loaded = load(LAYOUTS[layout](small_network.state_dict()), tmp_path / "checkpoint.pth.tar")
    assert same(loaded, small_network)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("key", EMA_KEYS)
def test_the_averaged_weights_are_taken_where_they_are_asked_for(
    key: str, small_network: Network, tmp_path: Path
) -> None:
    state = small_network.state_dict()
    content = training(zeros(state), **{key: parallel(state)})
    assert same(load(content, tmp_path / "checkpoint", ema=True), small_network)
    assert not same(load(content, tmp_path / "checkpoint"), small_network)


def test_half_precision_is_read_as_single(small_network: Network, tmp_path: Path) -> None:
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in small_network.state_dict().items()
    }
    loaded = load(half, tmp_path / "checkpoint")
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    assert torch.allclose(loaded.fc.weight, small_network.fc.weight, rtol=1e-3, atol=1e-5)


def test_the_format_of_torch_before_1_6_loads(small_network: Network, tmp_path: Path) -> None:
    legacy(small_network.state_dict(), tmp_path / "checkpoint")
    assert same(load_checkpoint(tmp_path / "checkpoint", architecture=TWO_BLOCKS), small_network)


class Bomb:
    """Creates a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("save", [torch.save, legacy, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_pickle_is_refused_and_not_executed(save: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    save({"state_dict": Bomb(tmp_path / "boom")}, tmp_path / "checkpoint")
    with pytest.raises(InvalidCheckpoint, match="not a checkpoint"):
        load_checkpoint(tmp_path / "checkpoint")
    assert not (tmp_path / "boom").exists()


def test_an_archive_that_claims_to_hold_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data/0", b"")
        archive.infolist()[0].file_size = 2_200_000_000  # as the directory at the end will say
    with pytest.raises(InvalidCheckpoint, match=r"claims to hold 2\.2 GB"):
        load_checkpoint(path)


def without(state: State, name: str) -> State:
    return {key: tensor for key, tensor in state.items() if key != name}


def not_a_number(state: State) -> State:
    broken = state["conv1.weight"].clone()
    broken[0, 0, 0, 0] = float("nan")
    return state | {"conv1.weight": broken}


WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "a missing tensor": (lambda state: without(state, "fc.bias"), r"fc\.bias missing"),
    "an extra tensor": (lambda state: state | {"aux.weight": torch.zeros(1)}, r"aux\.weight unexpected"),
    "all missing": (lambda state: {"a": torch.zeros(1)}, r"conv1\.weight, .* and \d+ more missing; a unexpected"),
    "not finite": (not_a_number, r"is damaged: conv1\.weight not finite"),
    "a list": (lambda state: list(state.values()), "holds a list, not the state dict"),
    "a tensor": (lambda state: state["fc.bias"], "holds a Tensor, not the state dict"),
    "a number": (lambda state: 7, "holds a int, not the state dict"),
    "empty": (lambda state: {}, "holds no weights"),
    "an empty state dict": (lambda state: {"state_dict": {}}, "holds no weights"),
    "names that are numbers": (lambda state: {1: torch.zeros(1)}, "1 are not tensors"),
    "values that are no tensors": (lambda state: state | {"epoch": 3}, "epoch are not tensors"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_is_named(name: str, small_network: Network, tmp_path: Path) -> None:
    change, message = WRONG[name]
    with pytest.raises(InvalidCheckpoint, match=message) as caught:
        load(change(dict(small_network.state_dict())), tmp_path / "checkpoint")
    assert str(tmp_path / "checkpoint") in str(caught.value)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            Architecture(blocks=(1, 1), widths=(32, 64), squeeze=4),
            r"squeeze\.squeeze\.weight is \(4, 64\) and should",
        ),
        (Architecture(blocks=(1, 1), widths=(32, 64), classes=10), r"fc\.weight is \(10, 128\) and should be \(1000"),
        (Architecture(blocks=(2, 1), widths=(32, 64)), r"layers\.0\.1\..* unexpected"),
        (Architecture(blocks=(1, 1), widths=(32, 64), cardinality=1), r"conv2\.weight is \(32, 32, 3, 3\) and should"),
    ],
)
def test_another_architecture_is_refused(other: Architecture, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=message):
        load(Network(other).state_dict(), tmp_path / "checkpoint")


def test_averaged_weights_that_are_missing_are_an_error(small_network: Network, tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="neither state_dict_ema nor ema_state_dict"):
        load(small_network.state_dict(), tmp_path / "checkpoint", ema=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!doctype html><title>Sign in</title>", "not a checkpoint"),
        (b"PK\x03\x04 and then nothing", "not a checkpoint"),
        (b"\x80\x02}q\x00.", "holds no weights|not a checkpoint"),
        (struct.pack("<Q", 1 << 62) + b"{}", "not a checkpoint"),
    ],
)
def test_a_file_that_is_not_a_checkpoint_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=message):
        load_checkpoint(tmp_path / "file")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(InvalidCheckpoint, match="cannot read the checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("save", [torch.save, legacy])
def test_every_truncation_is_refused(save: Callable[[Any, Any], Any], small_network: Network, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save(small_network.state_dict(), path)
    content = path.read_bytes()
    for kept in (1, 7, 8, 100, len(content) // 2, len(content) - 1000):
        path.write_bytes(content[:kept])
        with pytest.raises(InvalidCheckpoint):
            load_checkpoint(path, architecture=TWO_BLOCKS)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[bytes, ...]]:
    contents = []
    for new in (True, False):
        buffer = io.BytesIO()
        state = Network(Architecture(blocks=(1,), widths=(32,), classes=10)).state_dict()
        torch.save(state, buffer, _use_new_zipfile_serialization=new)
        contents.append(buffer.getvalue())
    return tmp_path_factory.mktemp("damaged") / "checkpoint", tuple(contents)


FLIPS = st.lists(st.tuples(st.integers(-20_000, 20_000), st.integers(1, 255)), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None)
@given(which=st.integers(0, 1), flips=FLIPS)
def test_any_damage_loads_or_is_refused(
    which: int, flips: list[tuple[int, int]], saved: tuple[Path, tuple[bytes, ...]]
) -> None:
    path, contents = saved
    damaged = bytearray(contents[which])
    for position, mask in flips:  # names, sizes and opcodes are at the two ends; what lies between is numbers
        damaged[position] ^= mask
    path.write_bytes(damaged)
    with contextlib.suppress(InvalidCheckpoint):
        load_checkpoint(path, architecture=Architecture(blocks=(1,), widths=(32,), classes=10))
