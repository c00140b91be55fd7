"""What production does with the flags of `deploy/serve.sh`, behind the proxy of `deploy/nginx`."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc
from tests.deploy.production import KEY, MODEL, Production, production
from tritonclient.utils import InferenceServerException

from seresnext_client import Classifier, connect
from seresnext_client.errors import ServerRefused
from seresnext_client.transports.base import WireProtocol

pytestmark = pytest.mark.triton
CLIENT = Path(sys.executable).with_name("seresnext-client")

CLOSED = [
    ("POST", "/v2/repository/index"),
    ("POST", f"/v2/repository/models/{MODEL}/load"),
    ("POST", f"/v2/repository/models/{MODEL}/unload"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/logging"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/status"),
]


@pytest.fixture(scope="module")
def server(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with production(small_repository, tmp_path_factory.mktemp("production")) as running:
        yield running


def test_only_the_ensemble_that_is_asked_for_is_served(server: Production) -> None:
    assert server.ask(f"/v2/models/{MODEL}/ready") == 200
    assert server.ask("/v2/models/seresnext101_torchscript/ready") != 200


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_is_not_for_everybody_needs_the_key(server: Production, method: str, path: str) -> None:
    assert server.ask(path, method=method) == 403
    assert server.ask(path, method=method, headers={"admin-key": "a guess"}) == 403
    if not path.endswith("unload"):
        assert server.ask(path, method=method, headers={"admin-key": KEY}) in (200, 400)  # 400: no CUDA here


def test_over_grpc_the_key_has_another_name(server: Production) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="triton-grpc-protocol-admin-key"):
            client.get_model_repository_index()
        with pytest.raises(InferenceServerException, match="restricted"):
            client.get_model_repository_index(headers={"admin-key": KEY})
        assert client.get_model_repository_index(headers={"triton-grpc-protocol-admin-key": KEY}).models


def test_without_a_key_file_nobody_may(small_repository: Path, tmp_path: Path) -> None:
    with production(small_repository, tmp_path, environment={"ADMIN_KEY_FILE": "/nowhere"}) as server:
        assert server.ask(f"/v2/models/{MODEL}/ready") == 200
        for value in ("", KEY):
            assert server.ask("/v2/repository/index", method="POST", headers={"admin-key": value}) == 403


@pytest.mark.parametrize("protocol", WireProtocol)
def test_the_client_classifies_and_shows_what_it_may(
    server: Production, protocol: WireProtocol, grace_hopper: Path
) -> None:
    url = server.http_url if protocol is WireProtocol.HTTP else server.grpc_url
    common = ["--url", url, "--protocol", protocol]
    shown = subprocess.run([CLIENT, "classify", grace_hopper, *common], capture_output=True, text=True)
    assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 6), shown.stderr
    status = subprocess.run([CLIENT, "status", *common], capture_output=True, text=True)
    assert "restricted" in status.stdout + status.stderr
    name = "admin-key" if protocol is WireProtocol.HTTP else "triton-grpc-protocol-admin-key"
    status = subprocess.run([CLIENT, "status", *common, "--header", f"{name}:{KEY}"], capture_output=True, text=True)
    assert "restricted" not in status.stdout + status.stderr
    assert MODEL in status.stdout


def test_a_full_queue_answers_at_once_and_in_words(small_repository: Path, tmp_path: Path, grace_hopper: Path) -> None:
    """The queues of the network hold two requests here; who comes then is told so, and the others are answered."""
    repository = tmp_path / "models"
    shutil.copytree(small_repository, repository)
    config = repository / "seresnext101_onnx" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_queue_size: 1024", "max_queue_size: 2"))
    picture = grace_hopper.read_bytes()

    def ask(_: int) -> str:
        with Classifier(connect(busy.grpc_url), retries=0) as classifier:
            try:
                return classifier.classify(picture)[0].label
            except ServerRefused as error:
                return str(error)

    with production(repository, tmp_path) as busy, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(96)))
        refused = [answer for answer in answers if "queue" in answer.lower()]
        print(f"96 requests at once to queues of two: {len(refused)} refused, {96 - len(refused)} answered")
        assert refused
        assert len(refused) < 96
        assert len(set(answers) - set(refused)) == 1, set(answers)
        assert busy.ask(f"/v2/models/{MODEL}/ready") == 200


LOCKED = (
    "mount -t tmpfs -o size=256m tmpfs /dev/shm && mount --bind /tmp /tmp && mount -o remount,bind,ro / && "
    'mount --bind "$REPOSITORY" "$REPOSITORY" && mount -o remount,bind,ro "$REPOSITORY" && '
    'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"'
)


def test_nothing_is_written_but_temporary_files(small_repository: Path, tmp_path: Path, grace_hopper: Path) -> None:
    """As containers run it: a root and a repository that are read-only, no capabilities, no new privileges."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs to be root, to have mounts of its own")
    with production(small_repository, tmp_path, prefix=["unshare", "-m", "sh", "-c", LOCKED, "sh"]) as server:
        assert "CapEff:\t0000000000000000" in Path(f"/proc/{server.process.pid}/status").read_text()
        mounts = Path(f"/proc/{server.process.pid}/mounts").read_text().splitlines()
        options = {line.split()[1]: line.split()[3].split(",")[0] for line in mounts}
        assert (options["/"], options[str(small_repository)]) == ("ro", "ro")
        with Classifier(connect(server.grpc_url)) as classifier:
            assert len(classifier.classify(grace_hopper.read_bytes())) == 5
