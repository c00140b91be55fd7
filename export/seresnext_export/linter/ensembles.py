"""Whether the steps of an ensemble exist, fit each other, and write its outputs."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seresnext_export.linter.model_directory import OURS, Finding, ModelDirectory, describe, fit
from seresnext_export.spec import FREE


@dataclass(frozen=True)
class Link:
    """A tensor of an ensemble, as a model writes or reads it."""

    tensor: Any  # Triton's ModelInput or ModelOutput message
    batched: bool

    def fits(self, other: "Link") -> bool:
        """Return whether two models can pass the tensor: a model without a batch axis may have it among its dims."""
        if self.tensor.data_type != other.tensor.data_type:
            return False
        return fit(self.tensor.dims, other.tensor.dims) or fit(self._full_dims, other._full_dims)

    @property
    def _full_dims(self) -> list[int]:
        return [*([FREE] if self.batched else []), *self.tensor.dims]


def steps(ensemble: ModelDirectory, models: Mapping[str, ModelDirectory]) -> Iterator[Finding]:
    """Yield the defects of an ensemble's steps and of the maps between them."""
    path, config = ensemble.config_path, ensemble.config
    batched = config.max_batch_size > 0
    findings = list(_models(ensemble, models))
    yield from findings
    if findings and any(step.model_name not in models for step in config.ensemble_scheduling.step):
        return
    written = {tensor.name: Link(tensor, batched) for tensor in config.input}
    writers = Counter(list(written))
    for step in config.ensemble_scheduling.step:
        model = models[step.model_name]
        outputs = {tensor.name: tensor for tensor in model.config.output}
        for output, tensor in step.output_map.items():
            if output not in outputs:
                cause = f"maps the output {output} of {model.name}, which it does not have"
                yield Finding(file=path, cause=cause, fix="fix the output_map")
                return
            written[tensor] = Link(outputs[output], model.config.max_batch_size > 0)
            writers[tensor] += 1
    for tensor in [tensor for tensor, count in writers.items() if count > 1]:
        yield Finding(file=path, cause=f"writes the tensor {tensor} twice", fix="give the tensors different names")
    for step in config.ensemble_scheduling.step:
        yield from _inputs(path, models[step.model_name], step.input_map, written)
    yield from _order(ensemble)
    read = {tensor for step in config.ensemble_scheduling.step for tensor in step.input_map.values()}
    for tensor in config.input:
        if tensor.name not in read:
            cause = f"has the input {tensor.name}, which no step reads"
            yield Finding(file=path, cause=cause, fix="remove it, or fix the input_map of a step")
    for tensor in config.output:
        if tensor.name not in written:
            cause = f"has the output {tensor.name}, which no step writes"
            yield Finding(file=path, cause=cause, fix="fix the output_map of a step")
        elif not written[tensor.name].fits(Link(tensor, batched)):
            actual = describe(written[tensor.name].tensor)
            cause = f"has the output {tensor.name} as {describe(tensor)}, it is {actual}"
            yield Finding(file=path, cause=cause, fix="set the same type and dims in both")


def _models(ensemble: ModelDirectory, models: Mapping[str, ModelDirectory]) -> Iterator[Finding]:
    """Yield steps that do not exist, that take smaller batches, or that are the ensemble itself."""
    path = ensemble.config_path
    for step in ensemble.config.ensemble_scheduling.step:
        model = models.get(step.model_name)
        if model is None:
            cause = f"has the step {step.model_name}, which is not in the repository"
            fix = "build that model too" if step.model_name in OURS else "add that model"
            yield Finding(file=path, cause=cause, fix=fix)
            continue
        if _runs(model, ensemble.name, models, frozenset()):
            yield Finding(file=path, cause=f"runs itself, by its step {model.name}", fix="remove the step")
        # A step that Triton does not batch takes the batch of the ensemble as an axis of its tensors.
        if 0 < model.config.max_batch_size < ensemble.config.max_batch_size:
            sizes = f"{ensemble.config.max_batch_size} images at once, its step {model.name}"
            cause = f"takes {sizes} takes {model.config.max_batch_size}"
            yield Finding(file=path, cause=cause, fix="set the same max_batch_size in both")
        if step.model_version > 0 and str(step.model_version) not in {version.name for version in model.versions}:
            cause = f"runs version {step.model_version} of {model.name}, which does not exist"
            yield Finding(file=path, cause=cause, fix="set model_version: -1, the latest")


def _runs(model: ModelDirectory, name: str, models: Mapping[str, ModelDirectory], seen: frozenset[str]) -> bool:
    """Return whether a model is `name`, or an ensemble that runs it at some depth."""
    if model.name == name:
        return True
    names = [step.model_name for step in model.config.ensemble_scheduling.step if step.model_name not in seen]
    return any(_runs(models[step], name, models, seen | {model.name}) for step in names if step in models)


def _inputs(
    path: str, model: ModelDirectory, input_map: Mapping[str, str], written: Mapping[str, Link]
) -> Iterator[Finding]:
    inputs = {tensor.name: tensor for tensor in model.config.input}
    required = {name for name, tensor in inputs.items() if not tensor.optional}
    if not required <= set(input_map) <= set(inputs):
        cause = f"maps {_names(input_map)} to {model.name}, whose inputs are {_names(inputs)}"
        yield Finding(file=path, cause=cause, fix="map every input of the step")
        return
    for name, tensor in input_map.items():
        link = Link(inputs[name], model.config.max_batch_size > 0)
        if tensor not in written:
            cause = f"has the step {model.name}, which reads {tensor}, which no step writes"
            yield Finding(file=path, cause=cause, fix="fix the maps of the steps")
        elif not written[tensor].fits(link):
            cause = (
                f"passes {tensor} as {describe(written[tensor].tensor)} to {model.name}, "
                f"which takes {describe(inputs[name])}"
            )
            yield Finding(file=path, cause=cause, fix="set the same type and dims in both")


def _order(ensemble: ModelDirectory) -> Iterator[Finding]:
    """Yield that steps wait for each other's outputs; the order in which they stand does not matter."""
    available = {tensor.name for tensor in ensemble.config.input}
    waiting = list(ensemble.config.ensemble_scheduling.step)
    written = available | {tensor for step in waiting for tensor in step.output_map.values()}
    while waiting:
        ready = [step for step in waiting if set(step.input_map.values()) & written <= available]
        if not ready:
            cause = f"has steps that wait for each other: {', '.join(step.model_name for step in waiting)}"
            yield Finding(file=ensemble.config_path, cause=cause, fix="fix the maps of the steps")
            return
        available |= {tensor for step in ready for tensor in step.output_map.values()}
        waiting = [step for step in waiting if step not in ready]


def _names(tensors: Mapping[str, Any]) -> str:
    return ", ".join(sorted(tensors)) or "nothing"
