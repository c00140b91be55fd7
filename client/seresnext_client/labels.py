"""Labels of classes: those of ImageNet, and files of them."""

from pathlib import Path

from seresnext_client.errors import InvalidOption

IMAGENET = "imagenet"
IMAGENET_FILE = Path(__file__).with_name("imagenet_labels.txt")  # `n02123045 tabby, tabby cat`, in the network's order
MAX_FILE_BYTES = 16 << 20


def read_labels(name: str) -> tuple[str, ...]:
    """Return the labels in a file, one per line in the order of the classes; "imagenet" names the 1000 of ImageNet-1k.

    Raises InvalidOption for a file that cannot be read.
    """
    path = IMAGENET_FILE if name == IMAGENET else Path(name)
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise InvalidOption(f"cannot read the labels in {name}: {reason}") from error
    labels = tuple(line.strip() for line in text.rstrip().split("\n"))
    if not any(labels):
        raise InvalidOption(f"{name} has no labels: a line for each class is expected")
    return labels


def labels_for(name: str | None, classes: int) -> tuple[tuple[str, ...], str]:
    """Return the labels of a model that has none itself, and their name; no labels, and "index", where none fit.

    `name` is that of a file or "imagenet"; None is ImageNet's for a model of 1000 classes. The networks of 1001
    classes have one for the background in front of ImageNet's. Raises InvalidOption for another number of labels.
    """
    if name is None:
        return (read_labels(IMAGENET), IMAGENET) if classes == len(read_labels(IMAGENET)) else ((), "index")
    labels = read_labels(name)
    if name == IMAGENET and classes == len(labels) + 1:
        labels = ("background", *labels)
    if len(labels) != classes:
        raise InvalidOption(f"{name} has {len(labels)} labels, and the model has {classes} classes")
    return labels, name
