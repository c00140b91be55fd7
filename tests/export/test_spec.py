"""A description that makes no sense cannot be made."""

from dataclasses import replace

import pytest

from seresnext_export import serving
from seresnext_export.serving import FormatName, Serving
from seresnext_export.spec import DynamicBatching, InstanceGroup, Step, Warmup

STEP = serving.preprocessing_step(Serving())
NETWORK = serving.network(FormatName.ONNX, Serving())
ENSEMBLE = serving.ensemble(STEP, NETWORK)


def test_a_batch_holds_at_least_one_picture() -> None:
    with pytest.raises(ValueError, match="max_batch_size is at least 1"):
        replace(NETWORK, max_batch_size=0)


def test_a_warm_up_fits_into_a_batch() -> None:
    with pytest.raises(ValueError, match="between 1 and 32"):
        replace(NETWORK, warmups=(Warmup(batch_size=33),))


def test_a_dim_is_positive() -> None:
    with pytest.raises(ValueError, match="every dim is at least 1"):
        replace(serving.PIXELS, dims=(224, 0, 3))


def test_there_is_an_instance() -> None:
    with pytest.raises(ValueError, match="at least 1 instance"):
        InstanceGroup(count=0)


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="not negative"):
        DynamicBatching(max_queue_delay_us=-1)


def test_an_ensemble_takes_no_more_than_its_steps() -> None:
    with pytest.raises(ValueError, match="seresnext101_preprocess takes at most 32"):
        replace(ENSEMBLE, max_batch_size=33)


def test_a_step_reads_only_what_was_written() -> None:
    with pytest.raises(ValueError, match="nobody wrote pixels"):
        replace(ENSEMBLE, steps=ENSEMBLE.steps[1:])


def test_an_ensemble_answers_only_what_was_written() -> None:
    with pytest.raises(ValueError, match="nobody wrote probabilities"):
        replace(ENSEMBLE, steps=ENSEMBLE.steps[:1])


def test_a_step_maps_every_tensor_of_its_model() -> None:
    with pytest.raises(ValueError, match="exactly once"):
        Step(model=NETWORK, inputs=(), outputs=(("probabilities", "probabilities"),))
