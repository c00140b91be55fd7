"""Everything in `deploy/` that another program reads, by that program or by its schema."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.deploy.production import DEPLOY, ROOT

from seresnext_export import pins

BIN = Path(sys.executable).parent
KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.29", "1.31", "1.33", "1.35", "1.37")
kubectl = shutil.which("kubectl")
needs_kubectl = pytest.mark.skipif(not kubectl, reason="needs kubectl, which has kustomize in it")


def run(*command: str | Path) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_dockerfile_pleases_hadolint() -> None:
    run(BIN / "hadolint", DEPLOY / "Dockerfile")


def test_the_scripts_please_shellcheck() -> None:
    run(BIN / "shellcheck", *sorted(DEPLOY.glob("*.sh")))


def test_the_compose_file_fits_the_specification() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_every_image_is_pinned_in_one_file() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    images = {service["image"] for service in services.values()}
    assert images == {
        "seresnext-triton:${TRITON_RELEASE:?read deploy/triton.env}",
        *(f"${{{name}}}" for name in pins.read() if name.endswith("_IMAGE") and name != "TRITON_IMAGE"),
    }


def test_every_variable_of_compose_is_pinned_or_has_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    without = {name for name, rest in re.findall(r"(?<!\$)\$\{(\w+)(:-)?", text) if not rest}
    assert without <= set(pins.read())


def test_every_port_is_open_on_the_loopback_interface_only() -> None:
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


def test_the_image_installs_what_the_tests_ran_with() -> None:
    locked = set((ROOT / "constraints.txt").read_text().splitlines())
    wanted = [line for line in (DEPLOY / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line.split("==")[0] for line in wanted] == ["numpy", "pillow"]
    assert set(wanted) <= locked


def test_the_allocator_is_the_same_everywhere() -> None:
    from seresnext_server.installation import ALLOCATOR

    assert dict(re.findall(r"(MALLOC_\w+)=(\d+)", (DEPLOY / "serve.sh").read_text())) == ALLOCATOR


# Kubernetes


def built(folder: Path) -> list[dict[str, Any]]:
    assert kubectl
    finished = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return [one for one in yaml.safe_load_all(finished.stdout) if one]


@pytest.fixture(params=["cpu", "gpu", "object-storage"])
def manifests(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, Any]]:
    """An overlay, or one with the component on top."""
    if request.param != "object-storage":
        return built(KUBERNETES / "overlays" / request.param)
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    overlay = copy / "overlays" / "cpu" / "kustomization.yaml"
    overlay.write_text(f"{overlay.read_text()}components: [../../components/object-storage]\n")
    return built(overlay.parent)


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_fit_the_strict_schemas_of_kubernetes(manifests: list[dict[str, Any]], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_that_does_not_fit_is_refused() -> None:
    manifest = yaml.safe_load((KUBERNETES / "base" / "poddisruptionbudget.yaml").read_text())
    manifest["spec"]["maxUnavailble"] = manifest["spec"].pop("maxUnavailable")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [one for one in manifests if one["kind"] == kind]
    return found


@needs_kubectl
def test_every_selector_finds_the_pods(manifests: list[dict[str, Any]]) -> None:
    labels = of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [one["spec"]["selector"] for one in manifests if one["kind"] == "Service"]
    selectors += [
        of_kind(manifests, kind)["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")
    ]
    selectors += [of_kind(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
    assert len(selectors) == 5
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


@needs_kubectl
def test_probes_ask_for_the_model_that_is_served(manifests: list[dict[str, Any]]) -> None:
    (container,) = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    check_probes(container)


def check_probes(container: dict[str, Any]) -> None:
    (model,) = [one["value"] for one in container["env"] if one["name"] == "MODEL"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == f"/v2/models/{model}/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/models/seresnext101_preprocess/ready"


@needs_kubectl
def test_a_pod_ends_after_the_longest_request(manifests: list[dict[str, Any]]) -> None:
    from seresnext_export.serving import Serving

    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    drain = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    exits = int(next(one for one in pod["containers"][0]["args"] if "exit-timeout" in one).split("=")[1])
    assert 1000 * drain > Serving().queue_timeout_ms
    assert pod["terminationGracePeriodSeconds"] > drain + exits


@needs_kubectl
def test_pods_fit_the_restricted_standard(manifests: list[dict[str, Any]]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"] + pod.get("initContainers", []):
        check_restricted(container)
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert {"/models", "/dev/shm", "/tmp"} <= mounts


def check_restricted(container: dict[str, Any]) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_manifests_name_the_pinned_release() -> None:
    release = pins.read()["TRITON_RELEASE"]
    base = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())
    assert [image["newTag"] for image in base["images"]] == [release]
    assert runtime()["spec"]["containers"][0]["image"] == f"seresnext-triton:{release}"


# KServe: the fields that are used, as https://kserve.github.io/website/docs/reference/crd-api has them

RUNTIME = {"annotations", "supportedModelFormats", "protocolVersions", "containers", "volumes"}
PREDICTOR = {"minReplicas", "maxReplicas", "timeout", "model"}
MODEL_SPEC = {"modelFormat", "runtime", "protocolVersion", "storageUri"}


def runtime() -> dict[str, Any]:
    return dict(yaml.safe_load((KUBERNETES / "kserve" / "servingruntime.yaml").read_text()))


def test_the_serving_runtime_is_one() -> None:
    found = runtime()
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1alpha1", "ServingRuntime")
    assert set(found["spec"]) == RUNTIME
    (container,) = found["spec"]["containers"]
    assert container["name"] == "kserve-container"
    check_probes(container)
    check_restricted(container)
    pod = {"containers": [container], "volumes": found["spec"]["volumes"]}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, VERSIONS[-1], strict=True
    )


def test_the_inference_service_asks_for_the_runtime() -> None:
    found = yaml.safe_load((KUBERNETES / "kserve" / "inferenceservice.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = found["spec"]["predictor"]
    assert set(predictor) == PREDICTOR
    assert set(predictor["model"]) == MODEL_SPEC
    assert predictor["model"]["runtime"] == runtime()["metadata"]["name"]
    offered = runtime()["spec"]
    assert predictor["model"]["protocolVersion"] in offered["protocolVersions"]
    assert predictor["model"]["modelFormat"]["name"] in {one["name"] for one in offered["supportedModelFormats"]}


def test_the_autoscaler_reads_what_the_adapter_offers() -> None:
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    autoscaler = yaml.safe_load((KUBERNETES / "base" / "horizontalpodautoscaler.yaml").read_text())
    assert rule["name"]["as"] == autoscaler["spec"]["metrics"][0]["pods"]["metric"]["name"]


def mirrored() -> Iterator[str]:
    """Every image that anything here runs."""
    yield from (value for name, value in pins.read().items() if name.endswith("_IMAGE"))
    for path in KUBERNETES.rglob("*.yaml"):
        yield from re.findall(r"image: (\S+/\S+)", path.read_text())


def test_the_page_for_sites_without_internet_lists_every_image() -> None:
    text = (DEPLOY / "README.md").read_text()
    assert [image for image in mirrored() if image not in text] == []
