"""Whether an ensemble's steps are there, fit each other, and write what is answered."""

from collections.abc import Iterator, Mapping

from seresnext_export.linter.entry import Entry, Finding, differ, shown


def ensemble(entry: Entry, entries: Mapping[str, Entry]) -> Iterator[Finding]:
    """Yield what is wrong with the steps of an ensemble and with the maps between them."""
    path = entry.config_path
    known = {tensor.name: tensor for tensor in entry.config.input}
    for step in entry.config.ensemble_scheduling.step:
        model = entries.get(step.model_name)
        if model is None:
            yield Finding(file=path, cause=f"has the step {step.model_name}, which is not here", mend="build it too")
            return
        if model.config.max_batch_size < entry.config.max_batch_size:
            cause = f"takes {entry.config.max_batch_size} at once, and {model.name} only {model.config.max_batch_size}"
            yield Finding(file=path, cause=cause, mend="give both the same max_batch_size")
        if step.model_version > 0 and str(step.model_version) not in {version.name for version in model.versions}:
            cause = f"wants version {step.model_version} of {model.name}, which is not here"
            yield Finding(file=path, cause=cause, mend="say -1 for the latest")
        inputs = {tensor.name: tensor for tensor in model.config.input}
        outputs = {tensor.name: tensor for tensor in model.config.output}
        if set(step.input_map) != set(inputs):
            cause = f"gives {model.name} {', '.join(sorted(step.input_map))}, and it takes {', '.join(sorted(inputs))}"
            yield Finding(file=path, cause=cause, mend="map every input of the step")
            return
        for theirs, ours in step.input_map.items():
            if ours not in known:
                yield Finding(file=path, cause=f"{model.name} reads {ours}, which nothing wrote", mend="mend the maps")
            elif differ(known[ours], inputs[theirs]):
                cause = f"{ours} is {shown(known[ours])}, and {model.name} takes {shown(inputs[theirs])}"
                yield Finding(file=path, cause=cause, mend="give both the same type and dims")
        for theirs, ours in step.output_map.items():
            if theirs not in outputs:
                yield Finding(file=path, cause=f"{model.name} has no output {theirs}", mend="mend the output_map")
                return
            known[ours] = outputs[theirs]
    for tensor in entry.config.output:
        if tensor.name not in known:
            yield Finding(file=path, cause=f"answers {tensor.name}, which no step writes", mend="mend the maps")
        elif differ(known[tensor.name], tensor):
            cause = f"answers {tensor.name} as {shown(tensor)}, and it is {shown(known[tensor.name])}"
            yield Finding(file=path, cause=cause, mend="give both the same type and dims")
