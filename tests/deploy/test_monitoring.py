"""Rules and dashboard, by a real Prometheus that scrapes a real server."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.production import DEPLOY, MODEL, Production, free_ports, production, stubs

from seresnext_client import Classifier, connect
from seresnext_client.errors import SeresnextError

MONITORING = DEPLOY / "monitoring"
FAILURES = 'sum by (job, instance) (rate(nv_inference_request_failure{model=~"seresnext101_.*_ensemble"}[5s]))'
GPU = "nv_gpu_"  # of what this machine may not have
prometheus = shutil.which("prometheus")
promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not promtool, reason="needs promtool: apt-get install prometheus")
needs_prometheus = pytest.mark.skipif(not prometheus, reason="needs prometheus: apt-get install prometheus")


def dashboard() -> dict[str, Any]:
    return dict(json.loads((MONITORING / "grafana" / "seresnext.json").read_text()))


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return list(group["rules"])


def shown() -> list[tuple[str, str]]:
    """The (panel, expression) pairs of the dashboard, its variables set to all."""
    return [
        (panel["title"], re.sub(r"\$\w+", ".*", target["expr"]))
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    ]


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "--lint=all", "--lint-fatal", MONITORING / "rules.yml"),
        ("check", "config", "--lint=all", "--lint-fatal", MONITORING / "prometheus.yml"),
        ("test", "rules", Path(__file__).with_name("rules.yml")),
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[1]}",
)
def test_promtool_has_nothing_to_say(arguments: tuple[Any, ...]) -> None:
    assert promtool
    finished = subprocess.run([promtool, *arguments], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_every_alert_is_tested_firing() -> None:
    tests = yaml.safe_load(Path(__file__).with_name("rules.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if "exp_alerts" in case}
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        taken |= cells


class Prometheus:
    """A Prometheus that listens on the loopback interface."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self._url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        found = self.get("query", query=expression)["result"]
        return [float(series["value"][1]) for series in found]


@pytest.fixture(scope="module")
def scraped(
    small_repository: Path, tmp_path_factory: pytest.TempPathFactory, grace_hopper: Path
) -> Iterator[tuple[Production, Prometheus]]:
    """A server under load, good pictures and bad ones, that was scraped for a while."""
    assert prometheus
    folder = tmp_path_factory.mktemp("prometheus")
    with production(small_repository, folder) as server:
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(MONITORING / "rules.yml")]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [server.metrics_url]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (port,) = free_ports(1)
        options = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        with (folder / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [prometheus, f"--config.file={folder / 'prometheus.yml'}", *options], stdout=log, stderr=log
            )
        try:
            with Classifier(connect(server.grpc_url)) as classifier, ThreadPoolExecutor(4) as pool:
                until = time.monotonic() + 12

                def ask(picture: bytes) -> None:
                    while time.monotonic() < until:
                        try:
                            classifier.classify(picture)
                        except SeresnextError:
                            time.sleep(0.05)

                list(pool.map(ask, [grace_hopper.read_bytes()] * 3 + [b"not a picture"]))
            yield server, Prometheus(f"127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(20)


@needs_prometheus
@pytest.mark.triton
@pytest.mark.parametrize(("panel", "expression"), shown())
def test_every_panel_of_the_dashboard_shows_something(
    scraped: tuple[Production, Prometheus], panel: str, expression: str
) -> None:
    found = scraped[1].values(expression)
    if GPU in expression:
        assert not found or max(found) >= 0  # only whether Prometheus understands it, where there is no GPU
    else:
        assert found, panel


@needs_prometheus
@pytest.mark.triton
def test_every_rule_is_evaluated_and_every_record_has_values(scraped: tuple[Production, Prometheus]) -> None:
    _, server = scraped
    (group,) = server.get("rules")["groups"]
    assert [rule["health"] for rule in group["rules"]] == ["ok"] * len(rules())
    assert not [rule["record"] for rule in rules() if "record" in rule and not server.values(rule["record"])]


@needs_prometheus
@pytest.mark.triton
@pytest.mark.parametrize("rule", [rule for rule in rules() if "alert" in rule], ids=lambda rule: str(rule["alert"]))
def test_what_an_alert_looks_at_is_there(scraped: tuple[Production, Prometheus], rule: dict[str, Any]) -> None:
    if GPU in rule["expr"]:
        pytest.skip("needs a GPU; its unit test is in rules.yml")
    looked_at = re.sub(r"(==|>)\s*[\d.]+", "", rule["expr"]).replace("unless on", "and on")
    assert scraped[1].values(looked_at), looked_at


@needs_prometheus
@pytest.mark.triton
def test_the_figures_are_those_of_the_load(scraped: tuple[Production, Prometheus]) -> None:
    """Bad pictures are told from faults; the ensemble's mean latency is more than the network's."""
    _, server = scraped
    assert server.values("seresnext:pictures_refused:rate1m")[0] > 0
    assert server.values("seresnext:failures:rate1m")[0] > 0
    assert server.values("seresnext:faults:rate1m") == [0]
    latency = 'seresnext:latency_seconds:mean1m{model="seresnext101_onnx%s"}'
    assert server.values(latency % "_ensemble")[0] > server.values(latency % "")[0] > 0


@needs_prometheus
@pytest.mark.triton
def test_the_metric_that_scales_is_there(scraped: tuple[Production, Prometheus]) -> None:
    """As prometheus-adapter asks for it, by what there is in place of pods."""
    (rule,) = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "instance").replace("<<.LabelMatchers>>", 'job="triton"')
    (seconds,) = scraped[1].values(query)
    assert 0 < seconds < 10


@needs_prometheus
@pytest.mark.triton
def test_a_dead_step_is_seen(scraped: tuple[Production, Prometheus], grace_hopper: Path) -> None:
    """Last: the server of this module is of no use afterwards."""
    triton, prometheus = scraped
    (rule,) = [rule["expr"] for rule in rules() if rule.get("alert") == "PreprocessingDead"]
    rule = rule.replace("[1m]", "[5s]").replace("seresnext:failures:rate1m", FAILURES)
    assert not prometheus.values(rule)
    (stub,) = [pid for pid, model in stubs(triton.process.pid) if model == "seresnext101_preprocess"]
    os.kill(stub, signal.SIGKILL)
    until = time.monotonic() + 60
    with Classifier(connect(triton.grpc_url), MODEL, retries=0) as classifier:
        while not prometheus.values(rule):
            assert time.monotonic() < until
            with pytest.raises(SeresnextError):
                classifier.classify(grace_hopper.read_bytes())
