"""What of tritonserver's log is repeated in an error."""

from pathlib import Path

import pytest

from seresnext_server import triton_log

LOG = """\
W1125 13:52:11.674078 21899 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"
E1125 13:52:11.674282 21899 server.cc:241] "CudaDriverHelper has not been initialized."
I1125 13:52:11.675377 21899 model_lifecycle.cc:472] "loading: seresnext101_onnx:1"
E1125 13:52:12.417899 21899 model_lifecycle.cc:64] "failed to load 'a' version 1: CUDA out of memory\\n\\nAt:\\n x"
E1125 13:52:12.417899 21899 model_lifecycle.cc:642] "failed to load 'b' version 1: no file"
E1125 13:52:12.417900 21899 model_lifecycle.cc:642] "failed to load 'b' version 1: no file"

At:
  /tmp/model.py(8): <module>

+-------+
| Model |
+-------+
terminate called after throwing an instance of 'std::invalid_argument'
  what():  stol
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "tritonserver.log"
    path.write_text(LOG)
    return path


def test_errors_and_lines_of_libraries_are_repeated_once_without_tracebacks(log: Path) -> None:
    assert triton_log.failures(log, has_gpu=False) == [
        "failed to load 'b' version 1: no file",
        "terminate called after throwing an instance of 'std::invalid_argument'",
        "what():  stol",
    ]


def test_errors_about_cuda_are_repeated_where_there_is_a_gpu(log: Path) -> None:
    assert triton_log.failures(log, has_gpu=True)[:2] == [
        "CudaDriverHelper has not been initialized.",
        "failed to load 'a' version 1: CUDA out of memory",
    ]


def test_of_many_lines_the_first_and_the_last_are_repeated(log: Path) -> None:
    log.write_text("unrecognized option\n" + "".join(f"usage {number}\n" for number in range(100)))
    lines = triton_log.failures(log, has_gpu=True)
    assert lines[0] == "unrecognized option"
    assert lines[-1] == "usage 99"
    assert len(lines) == triton_log.FIRST + triton_log.LAST


def test_a_log_that_is_not_a_file_is_not_read() -> None:
    assert triton_log.failures(Path("/dev/null"), has_gpu=True) == []
