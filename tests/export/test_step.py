"""What of the step's model.py the embedded server never calls, or cannot be without."""

import importlib.util
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from seresnext_client import preprocessing
from seresnext_export import assembly

MODEL = assembly.PACKAGE / "step" / "model.py"


class Metric:
    def __init__(self, **_: object) -> None:
        self.value = 0.0

    def increment(self, value: float) -> None:
        self.value += value


class MetricFamily:
    COUNTER = "counter"

    def __init__(self, **_: object) -> None:
        self.Metric = Metric


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model as Triton makes it; what the stub offers stands in for the stub."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", types.SimpleNamespace(MetricFamily=MetricFamily))
    monkeypatch.setitem(sys.modules, "preprocessing", preprocessing)
    spec = importlib.util.spec_from_file_location("step_model", MODEL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_config": '{"parameters": {}}', "model_name": "step", "model_version": "1"})
    yield model
    model.finalize()


@pytest.mark.filterwarnings("ignore")
def test_the_step_is_ready_while_its_threads_decode(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert step.is_ready()
    monkeypatch.setattr(step, "limits", preprocessing.Limits(max_bytes=1))
    assert not step.is_ready()


def test_a_server_without_pillow_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "triton_python_backend_utils.py").write_text("")
    program = (
        "import runpy, sys\n"
        "sys.modules['PIL'] = None\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"runpy.run_path({str(MODEL)!r})\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "this step needs Pillow in the Python of Triton's python backend; pip install pillow" in finished.stderr
