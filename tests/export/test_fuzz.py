"""Whatever a file holds, the parsers that are ours answer with their own errors: no traceback, no hang."""

import contextlib
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seresnext_client.errors import SeresnextError, UnusableDataset, UnusableImage
from seresnext_client.evaluation import labelled
from seresnext_client.pictures import listed, sources
from seresnext_export import linter, plan
from seresnext_export.download import fetch
from seresnext_export.errors import UnusableRepository
from seresnext_export.linter.entry import Entry, Finding, read

CONFIGS = sorted((Path(__file__).parent / "expected").iterdir())


@given(content=st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"ftrt\0\0\0\0" + rest))
def test_any_plan_has_a_version_or_is_none(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("plan") / "model.plan"
    path.write_bytes(content)
    with contextlib.suppress(UnusableRepository):
        assert plan.version(path).major <= 255


@given(content=st.binary(max_size=500))
def test_any_config_is_an_entry_or_a_finding(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.pbtxt").write_bytes(content)
    assert isinstance(read(folder), Entry | Finding)


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_config_is_found_or_does_no_harm(seed: int, small_repository: Path, tmp_path: Path) -> None:
    """Lines of real configurations left out, doubled and swapped."""
    chance = random.Random(seed)
    models = shutil.copytree(small_repository, tmp_path / "models", ignore=shutil.ignore_patterns("model.pt"))
    path = chance.choice(sorted(models.glob("*/config.pbtxt")))
    lines = path.read_text().splitlines()
    for _ in range(chance.randint(1, 3)):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(3):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[other])
            case _:
                lines[at], lines[other] = lines[other], lines[at]
    path.write_text("\n".join(lines))
    linter.check(models, on_cpu=True)


@given(text=st.text(st.characters(codec="utf-8"), max_size=300))
def test_any_ground_truth_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("val")
    (folder / "a.gif").write_bytes(b"GIF89a")
    (folder / "truth").write_text(text)
    with contextlib.suppress(UnusableDataset):
        assert len(labelled(folder, folder / "truth")) >= 1


@given(content=st.binary(max_size=300))
def test_any_list_of_names_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("names") / "names"
    path.write_bytes(content)
    with contextlib.suppress(UnusableImage):
        assert all(name and "\n" not in name for name in listed(path))


# No letters: a name that somebody could resolve takes the time of a resolver.
ADDRESSES = st.text(st.sampled_from("0127.:[]@/\\%#?&= \x00\n\t\u00e9\u202e-_~"), max_size=40)


@given(scheme=st.sampled_from(["http://", "https://", "HTTP://", "http:/", "https:"]), rest=ADDRESSES)
@settings(max_examples=200, deadline=None)
def test_any_address_of_a_picture_is_refused_in_words(scheme: str, rest: str) -> None:
    with contextlib.suppress(UnusableImage):
        for source in sources([f"{scheme}127.0.0.1:1/{rest}", f"{scheme}{rest}"]):
            source.read()


@given(scheme=st.sampled_from(["http://", "https://", "HTTP://"]), rest=ADDRESSES)
@settings(max_examples=100, deadline=None)
def test_any_address_of_a_checkpoint_is_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, scheme: str, rest: str
) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp()))
        for url in (f"{scheme}127.0.0.1:1/{rest}", f"{scheme}{rest}"):
            with pytest.raises(SeresnextError):
                fetch(url)
