"""Fixtures of the client's tests; the environment of the person who runs them names no server and no proxy."""

import os

import pytest
from tests.support.fake_transport import site

__all__ = ["site"]


@pytest.fixture(autouse=True)
def neutral_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SERESNEXT_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
