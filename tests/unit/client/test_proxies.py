"""Proxies of the environment, as curl and requests read them."""

import pytest

from seresnext_client.proxies import proxy_for


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("", "http://example.com/", False),
        ("*", "http://example.com/", True),
        ("example.com", "http://example.com/", True),
        ("example.com", "http://www.example.com:8080/", True),
        (".example.com", "http://www.example.com/", True),
        ("*.example.com", "http://www.example.com/", True),
        ("example.com", "http://badexample.com/", False),
        ("other.org, example.com", "http://EXAMPLE.com/", True),
        ("example.com:8080", "http://example.com:8080/", True),
        ("example.com:8080", "http://example.com:80/", False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("127.0.0.1", "http://127.0.0.1:99/", True),
        ("::1", "http://[::1]:99/", True),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("localhost", "http://127.0.0.1/", False),
    ],
)
def test_no_proxy_names_hosts_as_curl_reads_it(
    no_proxy: str, url: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "proxy:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert (proxy_for(url) is None) == is_direct


def test_small_letters_win_and_a_scheme_wins_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://all:1")
    monkeypatch.setenv("HTTP_PROXY", "http://large:1")
    assert proxy_for("http://example.com/") == "http://large:1"
    assert proxy_for("https://example.com/") == "http://all:1"
    monkeypatch.setenv("http_proxy", "small:1")
    assert proxy_for("http://example.com/") == "http://small:1"
