"""Write imagenet_labels.txt of the client from the data files in timm's wheel.

    pip download --no-deps --dest DIR timm && python export/generate_labels.py DIR/timm-*.whl

Line i is class i of ImageNet-1k: the WordNet id and the names of the synset. Classes are in the order of their ids.
"""

import sys
import zipfile
from pathlib import Path

LABELS = Path(__file__).parents[1] / "client" / "seresnext_client" / "imagenet_labels.txt"


def read_labels(wheel: Path) -> list[str]:
    """Return the labels in the wheel: `n02123045 tabby, tabby cat` and 999 others."""
    with zipfile.ZipFile(wheel) as archive:
        synsets, lemmas = (
            archive.read(f"timm/data/_info/imagenet_{name}.txt").decode().splitlines()
            for name in ("synsets", "synset_to_lemma")
        )
    names = dict(line.split("\t", 1) for line in lemmas)
    return [f"{synset} {names[synset]}" for synset in synsets]


if __name__ == "__main__":
    labels = read_labels(Path(sys.argv[1]))
    LABELS.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8", newline="\n")
