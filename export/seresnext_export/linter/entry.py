"""What the linter looks at, and what it finds."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from seresnext_export import pbtxt
from seresnext_export.serving import FormatName
from seresnext_export.spec import Backend

DEFAULT_FILES = {name.backend: name.filename for name in FormatName} | {Backend.PYTHON: "model.py"}
PLATFORMS = {
    "tensorrt_plan": Backend.TENSORRT,
    "onnxruntime_onnx": Backend.ONNX,
    "pytorch_libtorch": Backend.TORCHSCRIPT,
}
ENSEMBLE = "ensemble"
REBUILD = "build it again with seresnext-export build --force"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with a file, why it matters, and what to do."""

    file: str  # within the repository
    cause: str
    mend: str
    fault: bool = True  # or else a risk


@dataclass(frozen=True)
class Entry:
    """A model's directory and its configuration."""

    folder: Path
    config: Any

    @property
    def name(self) -> str:
        """The model's name, which is its directory's."""
        return self.folder.name

    @property
    def backend(self) -> str:
        """The backend, by whatever field says so; "ensemble" for an ensemble."""
        config = self.config
        return str(config.backend or PLATFORMS.get(config.platform, config.platform))

    @cached_property
    def versions(self) -> list[Path]:
        """The version directories that a server looks at."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit())

    @property
    def filename(self) -> str:
        """The artefact's name in a version directory."""
        return str(self.config.default_model_filename or DEFAULT_FILES[Backend(self.backend)])

    @property
    def artefacts(self) -> list[Path]:
        """The artefacts that are there, one for each version."""
        return [path for version in self.versions if (path := version / self.filename).is_file()]

    @property
    def config_path(self) -> str:
        """The file that configures it."""
        return str(self.folder / "config.pbtxt")


def read(folder: Path) -> Entry | Finding:
    """Return a model directory's entry, or why it has none."""
    path = folder / "config.pbtxt"
    try:
        entry = Entry(folder, pbtxt.parse(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Finding(file=str(folder), cause="a directory without config.pbtxt", mend="move it out of the repository")
    except (OSError, UnicodeDecodeError) as error:
        return Finding(file=str(path), cause=f"cannot be read: {error}", mend="mend its permissions or its encoding")
    except text_format.ParseError as error:
        return Finding(file=str(path), cause=f"is not a model configuration: {error}", mend="mend the line, or rebuild")
    if entry.backend not in (ENSEMBLE, *Backend):
        known = ", ".join(Backend)
        return Finding(file=str(path), cause=f"names the backend {entry.backend!r}", mend=f"known are {known}")
    return entry


def type_of(tensor: Any) -> str:
    """Return the type of a tensor of a configuration: "TYPE_FP32"."""
    return str(pbtxt.type_name(tensor.data_type))


def differ(one: Any, other: Any) -> bool:
    """Whether two tensors differ in type or dims."""
    return one.data_type != other.data_type or list(one.dims) != list(other.dims)


def shown(tensor: Any) -> str:
    """Return a tensor's type and dims as a person reads them."""
    return f"{type_of(tensor)} {list(tensor.dims)}"
