"""Shards cover every image once; a file of results is continued without asking twice, whatever ended the run before."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seresnext_client.bulk import ResultFile, Shard
from seresnext_client.errors import InvalidOption, OutputNotWritable
from seresnext_client.images import Source
from seresnext_client.output import ResultFormat, ResultWriter
from seresnext_client.prediction import Failure


def sources(names: Iterable[str]) -> list[Source]:
    return [Source(name, lambda: b"") for name in names]


def run(file: Path, names: Iterable[str], *, ended_after: int | None = None) -> list[str]:
    """Write results for the images that remain, or for the first of them, and return their names."""
    with ResultFile(file) as results, ResultWriter(ResultFormat.JSONL, results.file) as writer:
        asked = [source.name for source in results.remaining(sources(names))][:ended_after]
        for name in asked:
            writer.write(Failure(name, "", "damaged"))
    return asked


@given(st.lists(st.text(max_size=20), unique=True), st.integers(1, 9))
def test_every_image_is_in_one_shard(names: list[str], count: int) -> None:
    shards = [[source.name for source in Shard(index, count).select(sources(names))] for index in range(count)]
    assert sorted(name for shard in shards for name in shard) == sorted(names)


def test_shards_are_of_about_the_same_size_and_agree_whatever_else_is_listed() -> None:
    names = [f"s3://bucket/{number:06}.jpg" for number in range(8000)]
    sizes = [len(list(Shard(index, 8).select(sources(names)))) for index in range(8)]
    assert min(sizes) > 900
    assert max(sizes) < 1100
    alone = [source.name for source in Shard(3, 8).select(sources(names[100:]))]
    assert alone == [source.name for source in Shard(3, 8).select(sources(names)) if source.name in set(names[100:])]


@pytest.mark.parametrize("text", ["", "1", "8/8", "-1/8", "0/0", "1/2/3", "a/b", "\u0661/8"])
def test_what_is_no_shard_is_a_usage_error(text: str) -> None:
    with pytest.raises(InvalidOption):
        Shard.parse(text)


def test_a_run_continues_where_another_ended(tmp_path: Path) -> None:
    file, names = tmp_path / "results.jsonl", [str(number) for number in range(10)]
    assert run(file, names, ended_after=4) == names[:4]
    assert run(file, names) == names[4:]
    assert run(file, names) == []
    assert [json.loads(line)["image"] for line in file.read_text().splitlines()] == names


def test_a_line_that_was_cut_off_is_asked_again(tmp_path: Path) -> None:
    file, names = tmp_path / "results.jsonl", ["a", "b", "é"]
    run(file, names)
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        run(file, names)
        assert file.read_bytes() == content


def test_names_that_are_not_utf_8_are_recognized(tmp_path: Path) -> None:
    names = ["\udcff.jpg", "line\nfeed.jpg", "\u2028.jpg"]
    assert run(tmp_path / "results.jsonl", names) == names
    assert run(tmp_path / "results.jsonl", names) == []


@pytest.mark.parametrize("content", ["text\n", "[]\n", '{"name": 1}\n', "1\n", "\n", "\0\n"])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content)
    with pytest.raises(InvalidOption):
        run(file, ["a"])
    assert file.read_text() == content


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with ResultFile(tmp_path / "results.jsonl"), pytest.raises(OutputNotWritable, match="another process"):
        run(tmp_path / "results.jsonl", ["a"])


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable):
        run(tmp_path / "missing" / "results.jsonl", ["a"])
