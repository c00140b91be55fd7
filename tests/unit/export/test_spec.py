"""A description that contradicts itself cannot be constructed."""

from dataclasses import replace

import pytest

from seresnext_client.contract import FormatName
from seresnext_export import serving
from seresnext_export.serving import Serving
from seresnext_export.spec import DynamicBatching, EnsembleStep, InstanceGroup, Model, Warmup

PREPROCESSING = serving.preprocessing_model(Serving())
UNBATCHED = serving.network(FormatName.OPENVINO, Serving())
NETWORK = serving.network(FormatName.ONNX, Serving())
ENSEMBLE = serving.ensemble(FormatName.ONNX, PREPROCESSING, NETWORK)


def test_a_batch_of_an_ensemble_holds_at_least_one_image() -> None:
    with pytest.raises(ValueError, match="max_batch_size is at least 1"):
        replace(ENSEMBLE, max_batch_size=0)


def test_a_batch_size_is_not_negative() -> None:
    with pytest.raises(ValueError, match="max_batch_size is not negative"):
        replace(NETWORK, max_batch_size=-1)


@pytest.mark.parametrize(("model", "max_batch_size"), [(NETWORK, 0), (UNBATCHED, 32)])
def test_tensors_have_a_batch_axis_where_triton_does_not_batch_and_only_there(
    model: Model, max_batch_size: int
) -> None:
    with pytest.raises(ValueError, match="batch axis of their own"):
        replace(model, max_batch_size=max_batch_size)


@pytest.mark.parametrize(("model", "batch_size"), [(NETWORK, 33), (NETWORK, 0), (UNBATCHED, 0)])
def test_a_warm_up_fits_into_a_batch(model: Model, batch_size: int) -> None:
    with pytest.raises(ValueError, match="a batch is of 1 to"):
        replace(model, warmups=(Warmup(batch_size=batch_size),))


def test_a_model_that_triton_does_not_batch_takes_any_batch() -> None:
    assert UNBATCHED.takes(1000)
    assert NETWORK.takes(32)
    assert not NETWORK.takes(33)
    assert replace(UNBATCHED, warmups=(Warmup(batch_size=1000),)).warmups


def test_a_dim_is_positive() -> None:
    with pytest.raises(ValueError, match="every dim is at least 1"):
        replace(serving.PIXELS, dims=(224, 0, 3))


def test_an_instance_group_has_an_instance() -> None:
    with pytest.raises(ValueError, match="at least 1 instance"):
        InstanceGroup(count=0)


def test_a_delay_is_not_negative() -> None:
    with pytest.raises(ValueError, match="not negative"):
        DynamicBatching(max_queue_delay_us=-1)


def test_an_ensemble_takes_no_more_than_its_models() -> None:
    with pytest.raises(ValueError, match="seresnext101_preprocess takes at most 32"):
        replace(ENSEMBLE, max_batch_size=33)


def test_a_step_reads_only_what_was_written() -> None:
    with pytest.raises(ValueError, match="no step writes pixels"):
        replace(ENSEMBLE, steps=ENSEMBLE.steps[1:])


def test_an_output_of_an_ensemble_is_written_by_a_step() -> None:
    with pytest.raises(ValueError, match="no step writes probabilities"):
        replace(ENSEMBLE, steps=ENSEMBLE.steps[:1])


def test_a_step_maps_every_tensor_of_its_model() -> None:
    with pytest.raises(ValueError, match="exactly once"):
        EnsembleStep(model=NETWORK, inputs=(), outputs=(("probabilities", "probabilities"),))
