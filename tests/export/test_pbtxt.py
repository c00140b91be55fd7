"""The config.pbtxt of every model, written out in full under expected/."""

import json
from pathlib import Path

import pytest

from seresnext_export import pbtxt, serving
from seresnext_export.serving import FormatName, Serving
from seresnext_export.spec import Ensemble, Model

EXPECTED = Path(__file__).parent / "expected"


def models() -> list[Model | Ensemble]:
    """Every model of a repository with all formats, as the defaults have it."""
    step = serving.preprocessing_step(Serving())
    provenance = (("provenance.1", json.dumps({"checkpoint": {"source": "ngc"}})),)
    networks = [serving.network(name, Serving(), provenance) for name in FormatName]
    return [step, *networks, *(serving.ensemble(step, network) for network in networks)]


@pytest.mark.parametrize("model", models(), ids=lambda model: str(model.name))
def test_config_is_as_written_out_in_full(model: Model | Ensemble) -> None:
    assert pbtxt.render(model) == (EXPECTED / f"{model.name}.pbtxt").read_text()


def test_every_expected_config_belongs_to_a_model() -> None:
    assert {path.stem for path in EXPECTED.iterdir()} == {model.name for model in models()}


@pytest.mark.parametrize("model", models(), ids=lambda model: str(model.name))
def test_rendered_text_parses_back_to_the_same_message(model: Model | Ensemble) -> None:
    message = pbtxt.parse(pbtxt.render(model))
    assert message.name == model.name
    assert message.max_batch_size == model.max_batch_size
    assert [tensor.name for tensor in message.input] == [tensor.name for tensor in model.inputs]


def test_max_batch_size_is_written_once() -> None:
    sizes = Serving(max_batch_size=7)
    step = serving.preprocessing_step(sizes)
    network = serving.network(FormatName.ONNX, sizes)
    ensemble = serving.ensemble(step, network)
    assert {step.max_batch_size, network.max_batch_size, ensemble.max_batch_size} == {7}
    assert [warmup.batch_size for warmup in network.warmups] == [1, 7]


def test_only_the_networks_wait_for_company() -> None:
    step, *others = models()
    assert isinstance(step, Model)
    assert step.batching.max_queue_delay_us == 0
    assert all(model.batching.max_queue_delay_us > 0 for model in others if isinstance(model, Model))


def test_a_queue_without_limits_has_no_policy() -> None:
    for timeout_ms in (0, 1):
        step = serving.preprocessing_step(Serving(max_queue_size=0, queue_timeout_ms=timeout_ms))
        batching = pbtxt.parse(pbtxt.render(step)).dynamic_batching
        assert batching.HasField("default_queue_policy") == bool(timeout_ms)


def test_plans_for_several_gpus_are_a_map() -> None:
    plans = (("8.9", "model_8.9.plan"), ("9.0", "model_9.0.plan"))
    config = pbtxt.parse(pbtxt.render(serving.network(FormatName.TENSORRT, Serving(), plans=plans)))
    assert dict(config.cc_model_filenames) == dict(plans)


def test_cudnn_does_not_search_where_it_is_asked_not_to() -> None:
    (_, onnx, _) = (
        pbtxt.parse(pbtxt.render(serving.network(name, Serving(heuristic_cudnn=True)))).optimization
        for name in FormatName
    )
    (cuda,) = onnx.execution_accelerators.gpu_execution_accelerator
    assert (cuda.name, dict(cuda.parameters)) == ("cuda", {"cudnn_conv_algo_search": "HEURISTIC"})


def test_only_an_engine_has_cuda_graphs() -> None:
    for serves in (Serving(), Serving(cuda_graphs=False)):
        graphs = [
            pbtxt.parse(pbtxt.render(serving.network(name, serves))).optimization.cuda.graphs for name in FormatName
        ]
        assert graphs == [False, False, serves.cuda_graphs]
