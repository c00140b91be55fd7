"""Processes are read from a /proc of the test's own, and from the real one."""

import os
import subprocess
from pathlib import Path

from seresnext_server.processes import Stub, session_members, stubs


def add(
    proc: Path, pid: int, *, name: str, state: str = "S", parent: int = 10, session: int = 10, path: str = ""
) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} ({name}) {state} {parent} {pid} {session} 0 -1\n")
    (folder / "cmdline").write_bytes(f"/backends/stub\0{path}\0region\0".encode() if path else b"")


def test_stubs_are_the_children_of_the_server_and_tell_their_model(tmp_path: Path) -> None:
    add(tmp_path, 10, name="tritonserver", parent=1)
    add(tmp_path, 11, name="triton_python_b", path="/a folder/models/seresnext101_onnx/1/model.onnx")
    add(tmp_path, 12, name="triton_python_b", state="Z")
    add(tmp_path, 13, name="triton_python_b", parent=99, path="/models/other/1/model.py")
    add(tmp_path, 14, name="bash")
    (tmp_path / "15").mkdir()  # ended while it was looked at
    by_pid = {stub.pid: stub for stub in stubs(10, tmp_path)}
    assert by_pid == {11: Stub(11, is_dead=False, model="seresnext101_onnx"), 12: Stub(12, is_dead=True)}


def test_a_name_with_parentheses_is_read(tmp_path: Path) -> None:
    add(tmp_path, 11, name="a) Z (b", session=7)
    assert session_members(7, tmp_path) == [11]


def test_zombies_are_no_living_members_of_a_session(tmp_path: Path) -> None:
    add(tmp_path, 11, name="x", session=7)
    add(tmp_path, 12, name="x", state="Z", session=7)
    add(tmp_path, 13, name="x", session=8)
    assert session_members(7, tmp_path) == [11]


def test_a_real_session_is_found() -> None:
    with subprocess.Popen(["sleep", "30"], start_new_session=True) as process:
        assert session_members(process.pid) == [process.pid]
        process.kill()
    assert os.getpid() not in session_members(process.pid)
