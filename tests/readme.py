"""Whether the `--help` texts in the README are those of the commands; with --write, makes them so."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?<=^```console\n)\$ (?P<command>\S+(?: \S+)* --help)\n.*?(?=^```$)", re.MULTILINE | re.DOTALL)


def actual(block: re.Match[str]) -> str:
    program, *arguments = block["command"].split()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERESNEXT_")}
    finished = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"COLUMNS": "100", "NO_COLOR": "1"},
    )
    lines = "\n".join(line.rstrip() for line in finished.stdout.strip().splitlines())
    return f"$ {block['command']}\n{lines}\n"


def main() -> int:
    text = README.read_text()
    wanted = BLOCK.sub(actual, text)
    if text == wanted:
        return 0
    if "--write" in sys.argv:
        README.write_text(wanted)
        return 0
    print("README.md has other --help texts than the commands: python tests/readme.py --write", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
