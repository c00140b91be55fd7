"""The config.pbtxt of every model, written out in full under expected/."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seresnext_client.contract import FormatName
from seresnext_export import pbtxt, serving
from seresnext_export.serving import CudnnAlgoSearch, Serving
from seresnext_export.spec import Ensemble, Model

EXPECTED = Path(__file__).parent / "expected"


def models() -> list[Model | Ensemble]:
    """Return every model of a repository with all formats and default values."""
    preprocessing = serving.preprocessing_model(Serving())
    parameters = (("provenance.1", json.dumps({"checkpoint": {"source": "ngc"}})),)
    networks = {name: serving.network(name, Serving(), parameters=parameters) for name in FormatName}
    ensembles = [serving.ensemble(name, preprocessing, network) for name, network in networks.items()]
    return [preprocessing, *networks.values(), *ensembles]


@pytest.mark.parametrize("model", models(), ids=lambda model: str(model.name))
def test_a_configuration_is_as_written_out_in_full(model: Model | Ensemble) -> None:
    assert pbtxt.render(model) == (EXPECTED / f"{model.name}.pbtxt").read_text()


def test_every_expected_configuration_belongs_to_a_model() -> None:
    assert {path.stem for path in EXPECTED.iterdir()} == {model.name for model in models()}


@pytest.mark.parametrize("model", models(), ids=lambda model: str(model.name))
def test_the_text_parses_back_to_the_same_model(model: Model | Ensemble) -> None:
    config = pbtxt.parse(pbtxt.render(model))
    assert config.name == model.name
    assert config.max_batch_size == pbtxt.max_batch_size(pbtxt.render(model)) == model.max_batch_size
    assert [tensor.name for tensor in config.input] == [tensor.name for tensor in model.inputs]


@pytest.mark.parametrize("text", ["backened: 1", "name: ", "<html>", "\0", "input {" * 2000])
def test_text_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(pbtxt.InvalidConfig):
        pbtxt.parse(text)
    assert pbtxt.max_batch_size(text) == 0


def test_another_version_is_the_only_change() -> None:
    text = pbtxt.render(serving.network(FormatName.ONNX, Serving(), version=1))
    assert pbtxt.served_version(text) == 1
    assert pbtxt.with_version(text, 2) == text.replace("versions: [1]", "versions: [2]")


@pytest.mark.parametrize("policy", ["", "version_policy { latest { num_versions: 1 } }", "version_policy { all {} }"])
def test_a_configuration_need_not_name_a_version(policy: str) -> None:
    assert pbtxt.served_version(policy) is None


def test_a_number_without_a_type_has_a_name_all_the_same() -> None:
    assert pbtxt.type_name(pbtxt.parse("input { data_type: TYPE_FP32 }").input[0].data_type) == "TYPE_FP32"
    assert pbtxt.type_name(77) == "TYPE_77"


@pytest.mark.parametrize("max_batch_size", [1, 7])
def test_an_ensemble_batches_for_a_network_that_triton_does_not_batch(max_batch_size: int) -> None:
    sizes = Serving(max_batch_size=max_batch_size)
    network = serving.network(FormatName.OPENVINO, sizes)
    ensemble = serving.ensemble(FormatName.OPENVINO, serving.preprocessing_model(sizes), network)
    assert pbtxt.max_batch_size(pbtxt.render(ensemble)) == max_batch_size
    config = pbtxt.parse(pbtxt.render(network))
    warmups = [(warmup.batch_size, *warmup.inputs["pixels"].dims[:1]) for warmup in config.model_warmup]
    assert warmups == [(1, size) for size in sorted({1, max_batch_size})]


def test_a_queue_without_limits_has_no_policy() -> None:
    for timeout_ms in (0, 1):
        model = serving.preprocessing_model(Serving(max_queue_size=0, queue_timeout_ms=timeout_ms))
        batching = pbtxt.parse(pbtxt.render(model)).dynamic_batching
        assert batching.HasField("default_queue_policy") == bool(timeout_ms)


def test_plans_for_several_gpus_are_a_map() -> None:
    plans = (("8.9", "model_8.9.plan"), ("9.0", "model_9.0.plan"))
    config = pbtxt.parse(pbtxt.render(serving.network(FormatName.TENSORRT, Serving(), plans=plans)))
    assert dict(config.cc_model_filenames) == dict(plans)


def test_only_onnx_has_options_of_cudnn() -> None:
    heuristic = Serving(cudnn_algo_search=CudnnAlgoSearch.HEURISTIC)
    optimizations = {
        name: pbtxt.parse(pbtxt.render(serving.network(name, heuristic))).optimization for name in FormatName
    }
    accelerators = {
        name: [(cuda.name, dict(cuda.parameters)) for cuda in item.execution_accelerators.gpu_execution_accelerator]
        for name, item in optimizations.items()
    }
    options = {"cudnn_conv_algo_search": "HEURISTIC"}
    assert accelerators == {name: [("cuda", options)] if name is FormatName.ONNX else [] for name in FormatName}


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_only_an_engine_has_cuda_graphs(cuda_graphs: bool) -> None:
    for name in FormatName:
        text = pbtxt.render(serving.network(name, Serving(cuda_graphs=cuda_graphs)))
        cuda = pbtxt.parse(text).optimization.cuda
        assert cuda.graphs == bool(cuda.graph_spec) == (cuda_graphs and name is FormatName.TENSORRT)


@given(st.integers(1, 300))
def test_every_batch_size_has_one_cuda_graph_of_at_most_a_quarter_more(max_batch_size: int) -> None:
    graphs = serving.cuda_graphs(max_batch_size)
    ranges = [range(graph.lower_bound, graph.batch_size + 1) for graph in graphs]
    assert [size for sizes in ranges for size in sizes] == list(range(1, max_batch_size + 1))
    assert all(graph.batch_size <= 1.25 * graph.lower_bound for graph in graphs)
