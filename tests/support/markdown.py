"""The code blocks of Markdown files, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

FENCE = re.compile(r"^```(?P<language>\S*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
OPERATORS = set("();<>|&")


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the bodies of a page's fenced blocks of a language."""
    for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
        if fence["language"] == language:
            yield fence["body"]


def command_lines(page: Path) -> Iterator[str]:
    """Yield what a reader types in a page's console blocks: lines after `$ `, with their continuations."""
    for body in blocks(page, "console"):
        yield from re.findall(r"^\$ ((?:.*\\\n)*.*)$", body, re.MULTILINE)


def programs(line: str) -> Iterator[list[str]]:
    """Yield the programs that a command line starts, each with its arguments."""
    lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for is_operator, words in groupby(lexer, lambda word: set(word) <= OPERATORS):
        if not is_operator:
            yield list(words)
