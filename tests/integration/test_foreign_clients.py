"""Clients of others on our models: NVIDIA's image clients, tritony, PyTriton, and JSON with base64."""

import base64
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import urllib3
from numpy.typing import NDArray

from seresnext_client.contract import FormatName
from seresnext_client.preprocessing import preprocess
from seresnext_server.server import RunningServer

pytestmark = pytest.mark.triton

NETWORK, ENSEMBLE = FormatName.ONNX.network, FormatName.ONNX.ensemble
CLIENTS = {"grpc": tritonclient.grpc, "http": tritonclient.http}


def tensor_of(model: str, image: Path) -> tuple[str, str, NDArray[Any]]:
    if model == NETWORK:
        return "pixels", "UINT8", preprocess(image.read_bytes())[None]
    return "image", "BYTES", np.array([[image.read_bytes()]], np.object_)


@pytest.mark.parametrize("model", [NETWORK, ENSEMBLE])
@pytest.mark.parametrize("protocol", CLIENTS)
def test_a_timeout_that_is_meant_in_seconds_is_no_reason_to_refuse(
    small_server: RunningServer, model: str, protocol: str, grace_hopper: Path
) -> None:
    """As tritony asks: `timeout=30` for 30 seconds, which Triton reads as microseconds."""
    library = CLIENTS[protocol]
    name, datatype, data = tensor_of(model, grace_hopper)
    tensor = library.InferInput(name, list(data.shape), datatype)
    tensor.set_data_from_numpy(data)
    url = small_server.grpc_url if protocol == "grpc" else small_server.http_url
    with library.InferenceServerClient(url) as client:
        for _ in range(5):
            answer = client.infer(model, [tensor], timeout=30).as_numpy("probabilities")
            assert answer.shape == (1, 1000)


@pytest.mark.parametrize("model", [NETWORK, ENSEMBLE])
@pytest.mark.parametrize("protocol", CLIENTS)
def test_classes_are_asked_for_as_the_image_clients_do(
    small_server: RunningServer, model: str, protocol: str, grace_hopper: Path
) -> None:
    """From the metadata and the configuration: image_client, ensemble_image_client."""
    library = CLIENTS[protocol]
    url = small_server.grpc_url if protocol == "grpc" else small_server.http_url
    with library.InferenceServerClient(url) as client:
        options = {"as_json": True} if protocol == "grpc" else {}
        metadata = client.get_model_metadata(model, **options)
        config = client.get_model_config(model, **options)
        config = config.get("config", config)
        assert int(config["max_batch_size"]) > 0
        name, _, data = tensor_of(model, grace_hopper)
        (described,) = metadata["inputs"]
        assert described["name"] == name
        tensor = library.InferInput(name, list(data.shape), described["datatype"])
        tensor.set_data_from_numpy(data)
        requested = library.InferRequestedOutput(metadata["outputs"][0]["name"], class_count=3)
        answer = client.infer(model, [tensor], outputs=[requested]).as_numpy("probabilities")
    assert len([bytes(cell).decode().split(":", 2)[2] for cell in answer.ravel()]) == 3


@pytest.mark.filterwarnings("ignore::pytriton.client.warnings.NotSupportedTimeoutWarning")
@pytest.mark.parametrize("model", [NETWORK, ENSEMBLE])
@pytest.mark.parametrize("protocol", CLIENTS)
def test_the_client_of_pytriton_reads_our_configurations(
    small_server: RunningServer, model: str, protocol: str, grace_hopper: Path
) -> None:
    client_module: Any = import_module("pytriton.client")  # which only this needs

    url = f"{protocol}://{small_server.grpc_url if protocol == 'grpc' else small_server.http_url}"
    _, _, data = tensor_of(model, grace_hopper)
    with client_module.ModelClient(url, model, init_timeout_s=30) as client:
        assert client.infer_batch(data)["probabilities"].shape == (1, 1000)


def test_an_image_in_base64_is_answered_as_its_bytes_are(small_server: RunningServer, grace_hopper: Path) -> None:
    """As curl, fetch, MLServer's codec and KServe's convention send it."""
    text = base64.b64encode(grace_hopper.read_bytes()).decode()
    body = {"inputs": [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}
    url = f"http://{small_server.http_url}/v2/models/{ENSEMBLE}/infer"
    answer = urllib3.request(
        "POST", url, body=json.dumps(body), headers={"Content-Type": "application/json"}, timeout=60
    )
    (output,) = json.loads(answer.data)["outputs"]
    name, datatype, data = tensor_of(ENSEMBLE, grace_hopper)
    tensor = tritonclient.http.InferInput(name, list(data.shape), datatype)
    tensor.set_data_from_numpy(data)
    with tritonclient.http.InferenceServerClient(small_server.http_url) as client:
        expected = client.infer(ENSEMBLE, [tensor]).as_numpy("probabilities")
    np.testing.assert_allclose(output["data"], expected.ravel(), rtol=1e-4)
