"""Every path inside a model repository.

<repository>/<model>/config.pbtxt
<repository>/<model>/labels.txt            networks
<repository>/<model>/warmup/<file>         preprocessing model
<repository>/<model>/<version>/<artefact>
<repository>/<model>/<version>/provenance.json, reference.npz    networks
"""

from pathlib import Path

from seresnext_client.contract import FormatName

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
PROVENANCE = "provenance.json"
REFERENCE = "reference.npz"
WARMUP_DIRECTORY = "warmup"
WARMUP_IMAGE = "picture"
PYTHON_MODEL = "model.py"

PACKAGE_DIR = Path(__file__).parent
PREPROCESSING_MODEL_SOURCE = PACKAGE_DIR / "preprocessing_model" / PYTHON_MODEL
# Modules of the client that are copied beside the preprocessing model's model.py, as top-level modules.
PREPROCESSING_FILES = (
    "contract.py",
    "cpu.py",
    "image_costs.py",
    "image_headers.py",
    "image_limits.py",
    "image_samples.py",
    "netpbm.py",
    "preprocessing.py",
)


def version_folder(repository: Path, name: FormatName, version: int) -> Path:
    """Return the directory of a version of a network."""
    return repository / name.network / str(version)


def config_path(repository: Path, model: str) -> Path:
    """Return the configuration of a model."""
    return repository / model / CONFIG


def versions(model: Path) -> list[int]:
    """Return the versions in a model's directory, in order: Triton takes directories named by a number for them."""
    return sorted(int(path.name) for path in model.iterdir() if is_version(path))


def is_version(path: Path) -> bool:
    """Return whether a path is a version directory."""
    return path.name.isascii() and path.name.isdigit() and path.is_dir()
