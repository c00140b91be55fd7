"""The map over Ray Data of the documentation, on this machine."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.markdown import blocks

from seresnext_client import Classifier, connect
from seresnext_server.server import RunningServer

pytestmark = [pytest.mark.triton, pytest.mark.filterwarnings("ignore")]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "bulk.md"


def test_the_documented_map_labels_every_image(
    small_server: RunningServer, images: tuple[Path, ...], tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    folder, output = tmp_path / "images", tmp_path / "labels"
    folder.mkdir()
    jpegs = [path for path in images if path.suffix == ".jpg"]
    for number in range(20):
        shutil.copy(jpegs[number % len(jpegs)], folder / f"{number}.jpg")
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    (code,) = blocks(PAGE, "python")
    names: dict[str, Any] = {"__name__": "__main__"}  # so that classes travel to the actors by value
    exec(compile(code, str(PAGE), "exec"), names)
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    try:
        names["classify"](str(folder), small_server.grpc_url, str(output))
    finally:
        ray.shutdown()
    lines = [line for path in output.glob("*.json") for line in path.read_text().splitlines()]
    labels = {Path(record["path"]).name: record["label"] for record in map(json.loads, lines)}
    with Classifier(connect(small_server.grpc_url)) as classifier:
        expected = {path.name: classifier.classify(path.read_bytes(), top=1)[0].label for path in jpegs}
    assert labels.pop("damaged.jpg") is None
    assert labels == {f"{number}.jpg": expected[jpegs[number % len(jpegs)].name] for number in range(20)}
