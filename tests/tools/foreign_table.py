"""Classify with models and servers of others, and print what the client answers as a Markdown table.

    python -m tests.tools.foreign_table [--mlserver PYTHON] [--kserve PYTHON]

PYTHON is the interpreter of a virtual environment with mlserver or kserve; without it the rows are left out.
"""

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

import matplotlib
from tests.support import foreign_models, foreign_servers
from tests.support.commands import run
from tests.support.ports import wait_for_listener

from seresnext_server.config import ServerConfig
from seresnext_server.server import TritonServer

WAYS = {
    "gRPC": ("grpc", "server"),
    "HTTP": ("http", "server"),
    "gRPC, `--preprocess client`": ("grpc", "client"),
    "HTTP, `--preprocess client`": ("http", "client"),
}
MAX_SENTENCE = 110
IMAGE = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlserver", type=Path)
    parser.add_argument("--kserve", type=Path)
    options = parser.parse_args()
    print(f"| model | {' | '.join(WAYS)} |\n|{'---|' * (1 + len(WAYS))}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pixel = folder / "red.ppm"
        pixel.write_bytes(b"P6 1 1 255\n\xff\0\0")
        foreign_models.write_models_that_are_refused(foreign_models.write_repository(folder / "models"))
        server = stack.enter_context(TritonServer(ServerConfig(folder / "models")))
        names = [*(model.name for model in foreign_models.MODELS), foreign_models.UINT8_ENSEMBLE]
        for model in (*names, foreign_models.BYTES_ENSEMBLE, "two_images", "text", "grayscale"):
            print(row(f"tritonserver, {model}", model, server.grpc_url, server.http_url, IMAGE), flush=True)
        others = {"PyTriton": foreign_servers.pytriton(_folder(folder, "pytriton"))}
        if options.mlserver:
            others["MLServer"] = foreign_servers.mlserver(options.mlserver, _folder(folder, "mlserver"))
        if options.kserve:
            others["KServe"] = foreign_servers.kserve(options.kserve, _folder(folder, "kserve"))
        for name, other in others.items():
            running = stack.enter_context(other)
            _wait_until_ready(running)
            for model in (foreign_servers.MODEL, foreign_servers.IMAGE_MODEL):
                print(row(f"{name}, {model}", model, running.grpc_url, running.http_url, pixel), flush=True)


def row(title: str, model: str, grpc_url: str, http_url: str, image: Path) -> str:
    """Return a row: what each way answers."""
    urls = {"grpc": grpc_url, "http": f"http://{http_url}"}
    cells = (answer(model, urls[protocol], place, image) for protocol, place in WAYS.values())
    return f"| {title} | {' | '.join(cells)} |"


def answer(model: str, url: str, place: str, image: Path) -> str:
    """Return the best class and what was assumed, or the exit code and the error."""
    arguments = ("--model", model, "--url", url, "--preprocess", place, "--output", "json")
    completed = run("seresnext-client", "classify", image, *arguments)
    if completed.returncode:
        sentence = completed.stderr.strip().removeprefix("error: ").replace("|", "/")
        return f"{completed.returncode}: {sentence[:MAX_SENTENCE]}"
    (record,) = json.loads(completed.stdout)
    best, assumed = record["predictions"][0], record.get("assumed", {})
    listed = ", ".join(f"{name} {value}" for name, value in assumed.items())
    return f"{best['index']} {best['label'].partition(',')[0]} {best['probability']:.3f}" + (
        f" ({listed})" if listed else ""
    )


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _wait_until_ready(server: foreign_servers.ForeignServer) -> None:
    from tests.support.waiting import eventually

    from seresnext_client.connect import connect

    wait_for_listener(int(server.grpc_url.rpartition(":")[2]))
    eventually(lambda: connect(server.grpc_url).is_ready(foreign_servers.MODEL))


if __name__ == "__main__":
    main()
