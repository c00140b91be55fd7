"""A build of a two-block network in a process of its own, which a test stops, kills or starves."""

import argparse
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seresnext_client.errors import SeresnextError
from seresnext_export import photographs, repository
from seresnext_export.build import build
from seresnext_export.network import Architecture
from seresnext_export.random_weights import random_network
from seresnext_export.request import Request, Weights
from seresnext_export.serving import FormatName, Serving

parser = argparse.ArgumentParser()
parser.add_argument("target", type=Path)
parser.add_argument("--format", type=FormatName, default=FormatName.ONNX)
parser.add_argument("--stop-at", default="never")
parser.add_argument("--queue-delay-us", type=int, default=1000)
parser.add_argument("--file-size-limit", type=int)
parser.add_argument("--force", action="store_true")
options = parser.parse_args()


def reached(text: str) -> None:
    print(text, flush=True)
    if text.startswith(options.stop_at):
        os.kill(os.getpid(), signal.SIGSTOP)


@contextmanager
def step(text: str) -> Iterator[None]:
    reached(text)
    yield


publish = repository.publish


def watched(staged: Path, target: Path) -> bool:
    published = publish(staged, target)
    reached(f"published {staged.name}")
    return published


repository.publish = watched  # type: ignore[assignment]  # the same but for a name
if options.file_size_limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_size_limit, options.file_size_limit))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
request = Request(
    formats=(options.format,),
    weights=Weights(
        identity={"source": "small", "sha256": "0"},
        load=lambda: random_network(architecture=Architecture(blocks=(1, 1), widths=(32, 64))),
    ),
    pictures=tuple(photographs.shipped()[:3]),
    serving=Serving(max_batch_size=4, queue_delay_us=options.queue_delay_us),
    force=options.force,
)
try:
    results = build(request, options.target, step, lambda: print("waiting", flush=True))
except SeresnextError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
print("built" if any(result.published for result in results) else "unchanged")
