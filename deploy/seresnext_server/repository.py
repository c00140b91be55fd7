"""What a model repository offers to serve, read from its config.pbtxt files."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from seresnext_server.errors import NothingToServe


@dataclass(frozen=True, slots=True)
class Repository:
    """The models to ask a server for, and those whose config.pbtxt cannot be read."""

    path: Path
    names: tuple[str, ...]
    faults: dict[str, str]
    steps: dict[str, tuple[str, ...]]  # the models that each ensemble runs


def read(path: Path) -> Repository:
    """Return the ensembles of a repository, which bring their steps along; all models where there is no ensemble."""
    if not path.is_dir():
        message = f"no model repository at {path}: build one with seresnext-export build"
        raise NothingToServe(message)
    ensembles: list[str] = []
    others: list[str] = []
    faults: dict[str, str] = {}
    steps: dict[str, tuple[str, ...]] = {}
    for config in sorted(path.glob("*/config.pbtxt")):
        name = config.parent.name
        try:
            message = text_format.Parse(config.read_text(encoding="utf-8"), pb.ModelConfig())
        except (text_format.ParseError, OSError, ValueError) as error:
            faults[name] = f"{config.name}: {error}"
            continue
        steps[name] = tuple(step.model_name for step in message.ensemble_scheduling.step)
        (ensembles if message.platform == "ensemble" else others).append(name)
    names = ensembles or others
    if not names:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in faults.items())
        message = f"nothing to serve in {path}: build a model with seresnext-export build{reasons}"
        raise NothingToServe(message)
    return Repository(path, tuple(names), faults, steps)
