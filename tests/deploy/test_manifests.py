"""The files of `deploy/` that other programs read, checked by those programs or by their schemas."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.support.production import DEPLOY, ROOT

from seresnext_client.bulk import Shard
from seresnext_client.connect import connection_settings
from seresnext_client.contract import MAX_REQUEST_BYTES, PREPROCESSING_MODEL
from seresnext_client.errors import ExitCode
from seresnext_export import release
from seresnext_export.serving import Serving
from seresnext_server.installation import ALLOCATOR
from seresnext_server.triton_process import STACK_BYTES

BASE_IMAGES = ("TRITON_IMAGE", "PYTHON_IMAGE")  # that ours are built from
BIN = Path(sys.executable).parent
KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.29", "1.31", "1.33", "1.35", "1.37")
kubectl = shutil.which("kubectl")
CUSTOM_RESOURCES = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}
needs_kubectl = pytest.mark.skipif(not kubectl, reason="needs kubectl: apt-get install kubectl")


def run(*command: str | Path) -> None:
    completed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.parametrize("name", ["Dockerfile", "client.Dockerfile"])
def test_hadolint_accepts_the_dockerfiles(name: str) -> None:
    run(BIN / "hadolint", DEPLOY / name)


def test_shellcheck_accepts_the_scripts() -> None:
    run(BIN / "shellcheck", *sorted(DEPLOY.glob("*.sh")))


def test_the_compose_file_is_valid() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_every_container_image_is_pinned_in_triton_env() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    images = {service["image"] for service in services.values()}
    assert images == {
        "seresnext-triton:${TRITON_RELEASE:?read deploy/triton.env}",
        "seresnext-triton:${MODELS_TAG:-${TRITON_RELEASE}-models}",
        "seresnext-client:${TRITON_RELEASE}",
        *(f"${{{name}}}" for name in release.read() if name.endswith("_IMAGE") and name not in BASE_IMAGES),
    }


def test_every_variable_of_compose_is_pinned_or_has_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    without = {name for name, rest in re.findall(r"(?<!\$)\$\{(\w+)(:-)?", text) if not rest}
    assert without <= set(release.read())


def test_every_port_is_bound_to_the_loopback_interface() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert all(re.match(r"127\.0\.0\.1:|\$\{BIND:-127\.0\.0\.1\}:", port) for port in ports)
    assert not [port for port in ports if port.endswith(":8002")]


def test_every_server_is_locked_down() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    servers = [service for name, service in services.items() if name.startswith(("triton", "candidate"))]
    assert len(servers) == 4
    for service in servers:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["volumes"][0].endswith(":ro")


def make_wheel(folder: Path, version: str) -> None:
    """Write a wheel of the package `tiny`."""
    information = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")


@pytest.fixture
def pip_install(tmp_path: Path) -> Path:
    """A copy of the script beside constraints for `tiny` and an empty folder of wheels."""
    (tmp_path / "deploy" / "wheels").mkdir(parents=True)
    (tmp_path / "constraints.txt").write_text("tiny==1.5\n")
    return Path(shutil.copy(DEPLOY / "pip_install.sh", tmp_path / "deploy"))


def install_tiny(script: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    """Run the script where no package index can be reached."""
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    command: list[str | Path] = [script, "--target", target, "tiny"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_container_images_install_from_wheels_without_a_package_index(pip_install: Path, tmp_path: Path) -> None:
    for version in ("1.4", "1.5", "1.6"):
        make_wheel(pip_install.parent / "wheels", version)
    installed = install_tiny(pip_install, tmp_path / "target")
    assert installed.returncode == 0, installed.stderr
    assert (tmp_path / "target" / "tiny-1.5.dist-info").is_dir()


def test_without_wheels_container_images_ask_the_package_index(pip_install: Path, tmp_path: Path) -> None:
    assert "/simple/tiny/" in install_tiny(pip_install, tmp_path / "target").stderr


def test_the_container_image_installs_pinned_packages_only() -> None:
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    requirements = [line for line in (DEPLOY / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert set(requirements) == {"numpy", "pillow"}
    assert set(requirements) <= pinned


def test_the_allocator_is_the_same_in_serve_sh_and_in_the_embedded_server() -> None:
    assert dict(re.findall(r"(MALLOC_\w+)=(\d+)", (DEPLOY / "serve.sh").read_text())) == ALLOCATOR


def test_the_stack_is_the_same_everywhere_and_holds_the_largest_request_twice() -> None:
    """In KiB for the shell, in bytes for docker and the embedded server."""
    (kib,) = re.findall(r"ulimit -S -s (\d+)", (DEPLOY / "serve.sh").read_text())
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    limits = {service["ulimits"]["stack"] for service in services.values() if "ulimits" in service}
    assert limits == {int(kib) << 10} == {STACK_BYTES}
    assert STACK_BYTES > 2 * MAX_REQUEST_BYTES


def test_the_limit_of_a_request_is_the_same_everywhere() -> None:
    """In bytes for Triton, in MiB (`m`) for nginx."""
    deployment = yaml.safe_load((KUBERNETES / "base" / "deployment.yaml").read_text())
    containers = [pod["containers"][0] for pod in (deployment["spec"]["template"]["spec"], runtime()["spec"])]
    limits = {int(argument(container, "--http-max-input-size")) for container in containers}
    limits |= {int(size) for size in re.findall(r"--http-max-input-size=(\d+)", (DEPLOY / "Dockerfile").read_text())}
    nginx = (DEPLOY / "nginx" / "triton.conf.template").read_text()
    limits |= {int(size) << 20 for size in re.findall(r"client_max_body_size (\d+)m;", nginx)}
    assert limits == {MAX_REQUEST_BYTES}
    assert "http-max-input-size" in (DEPLOY / "Dockerfile").read_text()
    assert "client_max_body_size" in nginx


def argument(container: dict[str, Any], name: str) -> str:
    """Return the value of a container's argument `name=value`."""
    (value,) = [text.removeprefix(f"{name}=") for text in container["args"] if text.startswith(f"{name}=")]
    return str(value)


# Kubernetes


def kustomized(folder: Path) -> list[dict[str, Any]]:
    assert kubectl
    completed = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    return [manifest for manifest in yaml.safe_load_all(completed.stdout) if manifest]


OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())


@pytest.fixture(params=[*OVERLAYS, *COMPONENTS])
def manifests(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, Any]]:
    """The manifests of an overlay, or of the one for CPUs with a component."""
    if request.param in OVERLAYS:
        return kustomized(KUBERNETES / "overlays" / request.param)
    return with_components(tmp_path, request.param)


def with_components(folder: Path, *components: str) -> list[dict[str, Any]]:
    """Return the manifests of the overlay for CPUs with components."""
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    overlay = copy / "overlays" / "cpu" / "kustomization.yaml"
    paths = [f"../../components/{component}" for component in components]
    overlay.write_text(f"{overlay.read_text()}components: [{', '.join(paths)}]\n")
    return kustomized(overlay.parent)


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid_in_every_supported_release(manifests: list[dict[str, Any]], version: str) -> None:
    for manifest in manifests:
        if manifest["apiVersion"] not in CUSTOM_RESOURCES:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validation_refuses_an_unknown_field() -> None:
    manifest = yaml.safe_load((KUBERNETES / "base" / "poddisruptionbudget.yaml").read_text())
    manifest["spec"]["maxUnavailble"] = manifest["spec"].pop("maxUnavailable")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (manifest,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return manifest


@needs_kubectl
def test_every_selector_matches_the_pods(manifests: list[dict[str, Any]]) -> None:
    labels = of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [manifest["spec"]["selector"] for manifest in manifests if manifest["kind"] == "Service"]
    selectors += [
        of_kind(manifests, kind)["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")
    ]
    selectors += [of_kind(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
    assert len(selectors) == 5
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


@needs_kubectl
def test_readiness_is_that_of_all_models_and_liveness_that_of_the_preprocessing_model(
    manifests: list[dict[str, Any]],
) -> None:
    (container,) = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    check_probes(container)


def check_probes(container: dict[str, Any]) -> None:
    """An ensemble stays ready when the process of its preprocessing model is dead; the server does not."""
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == "/v2/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == f"/v2/models/{PREPROCESSING_MODEL}/ready"


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_of_an_overlay_wait_for_no_claim_and_no_secret(overlay: str) -> None:
    """`kubectl apply -k` ends in ready pods: the model repository is in the container image."""
    manifests = kustomized(KUBERNETES / "overlays" / overlay)
    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert all(volume["secret"]["optional"] for volume in pod["volumes"] if "secret" in volume)
    assert "initContainers" not in pod


@needs_kubectl
def test_no_manifest_sets_the_replicas_that_an_autoscaler_sets(manifests: list[dict[str, Any]]) -> None:
    assert "replicas" not in of_kind(manifests, "Deployment")["spec"]
    kinds = [manifest["kind"] for manifest in manifests]
    assert kinds.count("HorizontalPodAutoscaler") + kinds.count("ScaledObject") == 1


@needs_kubectl
def test_components_go_together(tmp_path: Path) -> None:
    kinds = [manifest["kind"] for manifest in with_components(tmp_path, "volume-claim", "keda", "pod-monitor")]
    assert {"PersistentVolumeClaim", "Job", "ScaledObject", "PodMonitor"} <= set(kinds)


@needs_kubectl
def test_the_pod_monitor_scrapes_the_pods_as_the_job_of_the_rules(tmp_path: Path) -> None:
    manifests = with_components(tmp_path, "pod-monitor")
    monitor = of_kind(manifests, "PodMonitor")["spec"]
    pod = of_kind(manifests, "Deployment")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert {"targetLabel": "job", "replacement": "triton"} in endpoint["relabelings"]


@needs_kubectl
def test_the_job_copies_the_repository_and_replaces_an_older_one(tmp_path: Path, small_repository: Path) -> None:
    """By its own script, twice; the second time one model differs."""
    job = of_kind(with_components(tmp_path, "volume-claim"), "Job")["spec"]["template"]["spec"]
    (container,) = job["containers"]
    check_restricted(container)
    claim = tmp_path / "claim"
    claim.mkdir()
    variables = {"SOURCE": str(small_repository), "REPOSITORY": str(claim), "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run([*container["command"], *container["args"]], env=variables, check=True, timeout=60)
        copied = {path.relative_to(claim) for path in claim.rglob("*")}
        expected = {path.relative_to(small_repository) for path in small_repository.rglob("*")}
        assert copied == expected | {Path(".complete")}
        (claim / PREPROCESSING_MODEL / "config.pbtxt").write_text("of an older build")
        (claim / PREPROCESSING_MODEL / "2").mkdir()


@needs_kubectl
def test_a_pod_outlives_the_longest_request(manifests: list[dict[str, Any]]) -> None:
    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    drain = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    exit_timeout = int(argument(pod["containers"][0], "--exit-timeout-secs"))
    assert 1000 * drain > Serving().queue_timeout_ms
    assert pod["terminationGracePeriodSeconds"] > drain + exit_timeout


@needs_kubectl
def test_pods_meet_the_restricted_standard(manifests: list[dict[str, Any]]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"] + pod.get("initContainers", []):
        check_restricted(container)
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert {"/dev/shm", "/tmp"} <= mounts


def check_restricted(container: dict[str, Any]) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
def test_the_batch_job_is_valid_and_restricted(version: str) -> None:
    manifests = kustomized(KUBERNETES / "batch")
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
    pod = of_kind(manifests, "Job")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    check_restricted(pod["containers"][0])


@needs_kubectl
def test_the_batch_job_has_a_shard_for_each_completion_and_finds_the_service() -> None:
    job = of_kind(kustomized(KUBERNETES / "batch"), "Job")["spec"]
    (client,) = job["template"]["spec"]["containers"]
    assert job["completionMode"] == "Indexed"
    shards = [
        Shard.parse(argument(client, "--shard").replace("$(JOB_COMPLETION_INDEX)", str(index)))
        for index in range(job["completions"])
    ]
    assert {shard.count for shard in shards} == {job["completions"]}
    server = connection_settings(argument(client, "--url"))
    services = [item for item in kustomized(KUBERNETES / "overlays" / "cpu") if item["kind"] == "Service"]
    addresses = {f"{item['metadata']['name']}:{port['port']}" for item in services for port in item["spec"]["ports"]}
    assert server.url in addresses
    assert server.resolver
    ignored, failed = (set(rule["onExitCodes"]["values"]) for rule in job["podFailurePolicy"]["rules"])
    assert ignored == {ExitCode.INVALID_INPUT}
    assert failed == {ExitCode.USAGE, ExitCode.MISSING}


def test_manifests_use_the_pinned_release() -> None:
    pinned = release.read()["TRITON_RELEASE"]
    base = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())
    assert [image["newTag"] for image in base["images"]] == [f"{pinned}-models"]
    assert runtime()["spec"]["containers"][0]["image"] == f"seresnext-triton:{pinned}"


# KServe: the fields in use, as https://kserve.github.io/website/docs/reference/crd-api has them

RUNTIME = {"annotations", "supportedModelFormats", "protocolVersions", "containers", "volumes"}
PREDICTOR = {"minReplicas", "maxReplicas", "timeout", "model"}
MODEL_SPEC = {"modelFormat", "runtime", "protocolVersion", "storageUri"}


def runtime() -> dict[str, Any]:
    return dict(yaml.safe_load((KUBERNETES / "kserve" / "servingruntime.yaml").read_text()))


def test_the_serving_runtime_is_valid() -> None:
    manifest = runtime()
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1alpha1", "ServingRuntime")
    assert set(manifest["spec"]) == RUNTIME
    (container,) = manifest["spec"]["containers"]
    assert container["name"] == "kserve-container"
    check_probes(container)
    check_restricted(container)
    pod = {"containers": [container], "volumes": manifest["spec"]["volumes"]}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, VERSIONS[-1], strict=True
    )


def test_the_inference_service_uses_the_runtime() -> None:
    manifest = yaml.safe_load((KUBERNETES / "kserve" / "inferenceservice.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = manifest["spec"]["predictor"]
    assert set(predictor) == PREDICTOR
    assert set(predictor["model"]) == MODEL_SPEC
    assert predictor["model"]["runtime"] == runtime()["metadata"]["name"]
    spec = runtime()["spec"]
    assert predictor["model"]["protocolVersion"] in spec["protocolVersions"]
    assert predictor["model"]["modelFormat"]["name"] in {
        supported["name"] for supported in spec["supportedModelFormats"]
    }


def test_the_autoscaler_uses_the_metric_of_the_adapter() -> None:
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    autoscaler = yaml.safe_load((KUBERNETES / "base" / "horizontalpodautoscaler.yaml").read_text())
    assert rule["name"]["as"] == autoscaler["spec"]["metrics"][0]["pods"]["metric"]["name"]


@needs_kubectl
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_routes_split_requests_between_the_service_and_its_canary(kind: str) -> None:
    """No pod belongs to both services, and every backend of a route is a port of one of them."""
    services: dict[tuple[str, int], dict[str, str]] = {}
    for overlay in (kind, f"canary-{kind}"):
        manifests = kustomized(KUBERNETES / "overlays" / overlay)
        labels = of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
        for service in (manifest for manifest in manifests if manifest["kind"] == "Service"):
            assert service["spec"]["selector"] == labels
            services |= {(service["metadata"]["name"], port["port"]): labels for port in service["spec"]["ports"]}
    routes = list(yaml.safe_load_all((KUBERNETES / "gateway" / "routes.yaml").read_text()))
    assert [route["kind"] for route in routes] == ["HTTPRoute", "GRPCRoute"]
    for route in routes:
        assert route["metadata"]["namespace"] == "seresnext"
        backends = route["spec"]["rules"][-1]["backendRefs"]
        pods = [services[backend["name"], backend["port"]] for backend in backends]
        assert pods[0] != pods[1]
        assert sum(backend["weight"] for backend in backends) == 100


def container_images() -> Iterator[str]:
    """Yield every container image that is used here."""
    yield from (value for name, value in release.read().items() if name.endswith("_IMAGE"))
    for path in KUBERNETES.rglob("*.yaml"):
        yield from re.findall(r"image: (\S+/\S+)", path.read_text())


def test_the_page_for_sites_without_internet_lists_every_container_image() -> None:
    text = (ROOT / "docs" / "how-to" / "offline.md").read_text()
    assert [image for image in container_images() if image not in text] == []
