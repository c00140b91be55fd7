"""Rules and dashboard, evaluated by a real Prometheus that scrapes a real server."""

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
from tests.support.ports import free_ports
from tests.support.production import DEPLOY, MODEL, Production, production
from tests.support.waiting import eventually

from seresnext_client import Classifier, connect
from seresnext_client.contract import PREPROCESSING_MODEL
from seresnext_client.errors import SeresnextError
from seresnext_server.processes import stubs

MONITORING = DEPLOY / "monitoring"
KUBERNETES = DEPLOY / "kubernetes"
FAILURES = 'sum by (job, instance) (rate(nv_inference_request_failure{model=~"seresnext101_.*_ensemble"}[5s]))'
GPU = "nv_gpu_"  # metrics that a server without a GPU does not have
prometheus = shutil.which("prometheus")
promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not promtool, reason="needs promtool: apt-get install prometheus")
needs_prometheus = pytest.mark.skipif(not prometheus, reason="needs prometheus: apt-get install prometheus")


def dashboard() -> dict[str, Any]:
    return dict(json.loads((MONITORING / "grafana" / "seresnext.json").read_text()))


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return list(group["rules"])


def panel_expressions() -> list[tuple[str, str]]:
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
def test_promtool_accepts_the_rules(arguments: tuple[Any, ...]) -> None:
    assert promtool
    completed = subprocess.run([promtool, *arguments], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def check_expressions(folder: Path, test: dict[str, Any]) -> None:
    """Have promtool evaluate the expressions of a test."""
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": [test]}))
    assert promtool
    completed = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def autoscaler_queries() -> dict[str, str]:
    """The queries by which prometheus-adapter and KEDA find out how long requests wait, the first grouped by pod."""
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    scaled = yaml.safe_load((KUBERNETES / "components" / "keda" / "scaledobject.yaml").read_text())
    (trigger,) = scaled["spec"]["triggers"]
    return {
        "adapter": rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'job="triton"'),
        "keda": trigger["metadata"]["query"],
    }


@needs_promtool
@pytest.mark.parametrize("query", ["adapter", "keda"])
@pytest.mark.parametrize(("requests_per_s", "expected_s"), [(0, 0.0), (10, 0.1)])
@pytest.mark.parametrize("scrape_interval_s", [5, 30, 60])
def test_the_autoscalers_have_a_value_at_night_and_at_every_scrape_interval(
    tmp_path: Path, query: str, requests_per_s: int, expected_s: float, scrape_interval_s: int
) -> None:
    """Requests wait 0.1 s each."""
    requests = requests_per_s * scrape_interval_s
    labels = 'job="triton",namespace="seresnext",pod="a"'
    samples = [{"labels": '{pod="a"}' if query == "adapter" else "{}", "value": expected_s}]
    series = {
        f'nv_inference_request_success{{{labels},model="seresnext101_onnx_ensemble"}}': f"0+{requests}x1000",
        f'nv_inference_queue_duration_us{{{labels},model="seresnext101_onnx"}}': f"0+{100_000 * requests}x1000",
    }
    expressions = [
        {"expr": f"round({autoscaler_queries()[query]}, 0.001)", "eval_time": f"{seconds}s", "exp_samples": samples}
        for seconds in range(600, 660, 7)  # at any time between two scrapes
    ]
    test = {
        "interval": f"{scrape_interval_s}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": expressions,
    }
    check_expressions(tmp_path, test)


@needs_promtool
@pytest.mark.parametrize("scrape_interval_s", [5, 30, 60])
def test_every_rate_of_the_dashboard_and_the_rules_has_a_value_at_every_scrape_interval(
    tmp_path: Path, scrape_interval_s: int
) -> None:
    windows = {window for _, expression in panel_expressions() for window in re.findall(r"\[(\w+)\]", expression)}
    windows |= {window for rule in rules() if "record" in rule for window in re.findall(r"\[(\w+)\]", rule["expr"])}
    (window,) = windows
    test = {
        "interval": f"{scrape_interval_s}s",
        "input_series": [{"series": "requests", "values": f"0+{scrape_interval_s}x1000"}],
        "promql_expr_test": [
            {
                "expr": f"round(rate(requests[{window}]), 0.5)",
                "eval_time": f"{seconds}s",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for seconds in range(600, 660, 7)
        ],
    }
    check_expressions(tmp_path, test)


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tests = yaml.safe_load(Path(__file__).with_name("rules.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if "exp_alerts" in case}
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


def test_panels_do_not_overlap_and_have_a_title_and_a_unit() -> None:
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
        series = self.get("query", query=expression)["result"]
        return [float(one_series["value"][1]) for one_series in series]


@pytest.fixture(scope="module")
def scraped(
    small_repository: Path, tmp_path_factory: pytest.TempPathFactory, grace_hopper: Path
) -> Iterator[tuple[Production, Prometheus]]:
    """A server that was scraped for a while under a load of valid and invalid images."""
    assert prometheus
    folder = tmp_path_factory.mktemp("prometheus")
    # With a dead stub the server ends only after this.
    with production(small_repository, folder, arguments=["--exit-timeout-secs=3"]) as server:
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
                end = time.monotonic() + 12

                def send(image: bytes) -> None:
                    while time.monotonic() < end:
                        try:
                            classifier.classify(image)
                        except SeresnextError:
                            time.sleep(0.05)

                list(pool.map(send, [grace_hopper.read_bytes()] * 3 + [b"not an image"]))
            yield server, Prometheus(f"127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(20)


@needs_prometheus
@pytest.mark.triton
@pytest.mark.parametrize(("panel", "expression"), panel_expressions())
def test_every_panel_of_the_dashboard_shows_data(
    scraped: tuple[Production, Prometheus], panel: str, expression: str
) -> None:
    values = scraped[1].values(expression)  # fails for an expression that Prometheus does not understand
    if GPU not in expression:
        assert values, panel


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
def test_the_metrics_of_an_alert_exist(scraped: tuple[Production, Prometheus], rule: dict[str, Any]) -> None:
    if GPU in rule["expr"]:
        pytest.skip("needs a GPU; its unit test is in rules.yml")
    without_threshold = re.sub(r"(==|>)\s*[\d.]+", "", rule["expr"]).replace("unless on", "and on")
    assert scraped[1].values(without_threshold), without_threshold


@needs_prometheus
@pytest.mark.triton
def test_the_figures_are_those_of_the_load(scraped: tuple[Production, Prometheus]) -> None:
    """Invalid images are not counted as faults; the ensemble's mean latency is more than the network's."""
    _, server = scraped
    assert server.values("seresnext:images_refused:rate2m")[0] > 0
    assert server.values("seresnext:failures:rate2m")[0] > 0
    assert server.values("seresnext:faults:rate2m") == [0]
    latency = 'seresnext:latency_seconds:mean2m{model="seresnext101_onnx%s"}'
    assert server.values(latency % "_ensemble")[0] > server.values(latency % "")[0] > 0


@needs_prometheus
@pytest.mark.triton
def test_the_metric_of_the_autoscaler_exists(scraped: tuple[Production, Prometheus]) -> None:
    """By the query of prometheus-adapter, grouped by instance instead of by pod."""
    (seconds,) = scraped[1].values(autoscaler_queries()["adapter"].replace("(pod)", "(instance)"))
    assert 0 < seconds < 10


@needs_prometheus
@pytest.mark.triton
def test_a_dead_preprocessing_process_raises_the_alert(
    scraped: tuple[Production, Prometheus], grace_hopper: Path
) -> None:
    """The last test of the module: its server does not recover."""
    triton, prometheus = scraped
    (rule,) = [rule["expr"] for rule in rules() if rule.get("alert") == "PreprocessingDown"]
    rule = rule.replace("[2m]", "[5s]").replace("seresnext:failures:rate2m", FAILURES)
    assert not prometheus.values(rule)
    (pid,) = [stub.pid for stub in stubs(triton.process.pid) if stub.model == PREPROCESSING_MODEL]
    os.kill(pid, signal.SIGKILL)
    with Classifier(connect(triton.grpc_url), MODEL, retries=0) as classifier:

        def fires_after_a_failed_request() -> bool:
            with pytest.raises(SeresnextError):
                classifier.classify(grace_hopper.read_bytes())
            return bool(prometheus.values(rule))

        assert eventually(fires_after_a_failed_request, 60)
