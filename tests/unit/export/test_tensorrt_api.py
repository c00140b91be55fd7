"""The TensorRT of the tests has no more and no less than the real bindings of both majors.

The bindings are downloaded from PyPI, and loaded over libraries that do nothing.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import fake_tensorrt
from tests.support.fake_tensorrt import Behavior, Recorder

from seresnext_export.build import build_engine
from seresnext_export.errors import ExportFailed
from seresnext_export.formats.tensorrt.options import EngineOptions, HardwareCompatibility
from seresnext_export.request import EngineRequest

RELEASES = {10: "10.16.1.11", 11: "11.4.0.106"}
FP16_FLAG = "BuilderFlag.FP16"
LOOK_UP = """
import sys, tensorrt_bindings
for name in sys.argv[1:]:
    value = tensorrt_bindings
    for part in name.split("."):
        value = getattr(value, part, None)
    if value is None:
        print(name)
"""


@pytest.fixture(scope="module")
def stub_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Libraries with the symbols that the bindings link to, each of which returns null."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("libraries")
    symbols = (
        *("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL"),
        *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
        *("getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins", "getInferLibVersion"),
    )
    (folder / "stub.c").write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
    for major in RELEASES:
        for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            output = folder / f"lib{library}.so.{major}"
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", output, folder / "stub.c"], check=True)
    return folder


@pytest.fixture(scope="module")
def missing_from(stub_libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, set[str]], set[str]]:
    """Returns which of some names the real bindings of a major do not have."""
    downloads = tmp_path_factory.mktemp("bindings")

    def missing(major: int, names: set[str]) -> set[str]:
        package = f"tensorrt_cu13_bindings=={RELEASES[major]}"
        folder = downloads / str(major)
        if not folder.is_dir():
            command: list[str | Path] = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--target",
                folder,
                package,
            ]
            if subprocess.run(command, capture_output=True, timeout=240).returncode:
                pytest.skip(f"cannot download {package} from PyPI")
        environment = {"LD_LIBRARY_PATH": str(stub_libraries), "PYTHONPATH": str(folder)}
        look_up = [sys.executable, "-c", LOOK_UP, *sorted(names)]
        finished = subprocess.run(look_up, capture_output=True, text=True, check=True, env=environment, timeout=60)
        return set(finished.stdout.split())

    return missing


@pytest.mark.parametrize("major", RELEASES)
def test_everything_that_the_builder_uses_is_in_the_real_api(
    major: int,
    missing_from: Callable[[int, set[str]], set[str]],
    behavior: Behavior,
    engine_request: EngineRequest,
    tmp_path: Path,
) -> None:
    request = replace(engine_request, force=True)
    Recorder.used.clear()
    for tf32, compatibility in enumerate(HardwareCompatibility):
        options = EngineOptions(
            timing_cache=tmp_path / "timing",
            hardware_compatibility=compatibility,
            version_compatible=True,
            tf32=bool(tf32),
        )
        build_engine(replace(request, engine=options), tmp_path / "models")
    failures: dict[str, Any] = {"builds": False, "parser_errors": ["bad node"]}
    for attribute, value in failures.items():
        setattr(behavior, attribute, value)
        with pytest.raises(ExportFailed):
            build_engine(request, tmp_path / "models")
    assert Recorder.used > {
        *("Builder.build_serialized_network", "BuilderFlag.TF32", "ILogger.log", "OnnxParser.get_error")
    }
    assert missing_from(major, Recorder.used) == set()


@pytest.mark.parametrize("major", RELEASES)
def test_the_tensorrt_of_the_tests_has_nothing_that_the_real_one_lacks(
    major: int, missing_from: Callable[[int, set[str]], set[str]]
) -> None:
    members = {
        f"{kind.__name__}.{name}"
        for kind in fake_tensorrt.CLASSES
        for name in vars(kind)
        if not name.startswith("_") and name not in ("used", "Severity")
    }
    assert len(members) > 20
    assert missing_from(major, members | {"Builder.no_such_method"}) == {"Builder.no_such_method"}


@pytest.mark.parametrize(("major", "missing"), [(10, set()), (11, {FP16_FLAG})])
def test_tensorrt_11_has_no_flag_for_fp16(
    major: int, missing: set[str], missing_from: Callable[[int, set[str]], set[str]]
) -> None:
    """So the builder sets none: code that sets the flag only where it exists gets FP32 without a word."""
    assert missing_from(major, {FP16_FLAG}) == missing
