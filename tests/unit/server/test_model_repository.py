"""What of a repository a server is asked for, and what it is not."""

from pathlib import Path

import pytest

from seresnext_server.errors import NothingToServe
from seresnext_server.model_repository import is_safe, read_repository

ENSEMBLE = """
platform: "ensemble"
ensemble_scheduling {
  step { model_name: "decode" model_version: -1 }
  step { model_name: "network" model_version: -1 }
}
"""


def add(repository: Path, name: str, config: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)


def test_all_models_are_served_and_ensembles_are_known_by_the_models_that_they_run(tmp_path: Path) -> None:
    add(tmp_path, "all", ENSEMBLE)
    add(tmp_path, "decode", 'backend: "python"')
    add(tmp_path, "network", 'backend: "onnxruntime"')
    add(tmp_path, "other", 'backend: "onnxruntime"')
    repository = read_repository(tmp_path)
    assert repository.models == ("all", "decode", "network", "other")
    assert repository.ensembles_of("decode") == ("all",)
    assert repository.ensembles_of("other") == ()
    assert repository.composing_models["all"] == ("decode", "network")
    assert repository.invalid == {}


def test_a_model_without_configuration_or_versions_is_named(tmp_path: Path) -> None:
    add(tmp_path, "model", 'backend: "python"')
    (tmp_path / "not-a-model" / "notes").mkdir(parents=True)
    (tmp_path / "no-config" / "1").mkdir(parents=True)
    (tmp_path / "no-version").mkdir()
    (tmp_path / "no-version" / "config.pbtxt").write_text('backend: "python"')
    repository = read_repository(tmp_path)
    assert repository.models == ("model",)
    assert set(repository.invalid) == {"no-config", "no-version"}


def test_a_config_that_cannot_be_read_is_no_reason_not_to_serve_the_others(tmp_path: Path) -> None:
    add(tmp_path, "good", ENSEMBLE)
    add(tmp_path, "bad", "what is this")
    (tmp_path / "binary" / "1").mkdir(parents=True)
    (tmp_path / "binary" / "config.pbtxt").write_bytes(b"\xff\xfe")
    repository = read_repository(tmp_path)
    assert repository.models == ("good",)
    assert set(repository.invalid) == {"bad", "binary"}


@pytest.mark.parametrize("name", ["$(touch pwned)", "a b", "été", "a;b", "a\nb", "a'b"])
def test_a_name_that_a_shell_would_change_is_invalid(tmp_path: Path, name: str) -> None:
    add(tmp_path, "good", ENSEMBLE)
    add(tmp_path, name, 'backend: "python"')
    assert set(read_repository(tmp_path).invalid) == {name}


@pytest.mark.parametrize(
    "config",
    [
        'default_model_filename: "$(touch pwned)"',
        'cc_model_filenames { key: "8.6" value: "a b" }',
        'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "x; touch pwned" } }',
    ],
)
def test_a_file_name_that_a_shell_would_change_is_invalid(tmp_path: Path, config: str) -> None:
    add(tmp_path, "good", ENSEMBLE)
    add(tmp_path, "bad", f'backend: "python"\n{config}')
    assert set(read_repository(tmp_path).invalid) == {"bad"}


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "unreadable"])
def test_a_repository_without_models_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "models"
    if kind == "file":
        path.write_text("")
    elif kind != "missing":
        path.mkdir()
    if kind == "unreadable":
        add(path, "bad", "what is this")
    with pytest.raises(NothingToServe, match=r"build one with|bad: config\.pbtxt"):
        read_repository(path)


def test_a_link_to_a_repository_is_one(tmp_path: Path) -> None:
    add(tmp_path / "real", "model", 'backend: "python"')
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_repository(tmp_path / "link").models == ("model",)


def test_paths_of_ordinary_characters_are_safe() -> None:
    assert is_safe("/srv/models_2/a-b.c+d=e@f")
    assert not is_safe("")
