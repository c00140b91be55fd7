"""A large request with the content type of a form ends a tritonserver whose threads have small stacks (server#5840)."""

import pytest
from tests.support.forms import FORM, post

from seresnext_client import Classifier, connect
from seresnext_client.contract import MAX_REQUEST_BYTES
from seresnext_server.server import RunningServer

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("size", [5_000_000, MAX_REQUEST_BYTES])
def test_the_embedded_server_survives_a_form(small_server: RunningServer, size: int) -> None:
    pid = small_server.pid
    assert post(small_server.http_url, size, FORM) in (400, 500)
    assert small_server.pid == pid
    with Classifier(connect(small_server.grpc_url)) as classifier:
        assert classifier.classes()
