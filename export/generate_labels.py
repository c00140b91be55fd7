"""Write seresnext_export/labels.txt from the data files in timm's wheel, so that no list is typed by hand.

    pip download --no-deps --dest DIR timm && python export/generate_labels.py DIR/timm-*.whl

Line i is class i of ImageNet-1k: the WordNet id and the names of the synset, the classes in the order of their ids.
"""

import sys
import zipfile
from pathlib import Path

LABELS = Path(__file__).parent / "seresnext_export" / "labels.txt"


def labels(wheel: Path) -> list[str]:
    """Return `n02123045 tabby, tabby cat` and 999 more."""
    with zipfile.ZipFile(wheel) as archive:
        ids, lemmas = (
            archive.read(f"timm/data/_info/imagenet_{name}.txt").decode().splitlines()
            for name in ("synsets", "synset_to_lemma")
        )
    names = dict(line.split("\t", 1) for line in lemmas)
    return [f"{wnid} {names[wnid]}" for wnid in ids]


if __name__ == "__main__":
    LABELS.write_text("".join(f"{label}\n" for label in labels(Path(sys.argv[1]))), encoding="utf-8", newline="\n")
