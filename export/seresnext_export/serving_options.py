"""The options of a command that say how models are served, and the decorator that gives a command these options."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from seresnext_export.serving import PreprocessingParameters, Serving

DEFAULTS = Serving()
serving_option = partial(typer.Option, rich_help_panel="Serving")


def _read_options(
    max_batch_size: Annotated[
        int, serving_option(min=1, max=1024, metavar="N", help="Largest batch, served and verified.")
    ] = DEFAULTS.max_batch_size,
    queue_delay_us: Annotated[
        int, serving_option(min=0, metavar="N", help="Microseconds that a network waits for a fuller batch.")
    ] = DEFAULTS.queue_delay_us,
    max_queue_size: Annotated[
        int, serving_option(min=0, metavar="N", help="Requests that may wait; 0: no limit.")
    ] = DEFAULTS.max_queue_size,
    queue_timeout_ms: Annotated[
        int, serving_option(min=0, metavar="N", help="Milliseconds that a request may wait; 0: no limit.")
    ] = DEFAULTS.queue_timeout_ms,
    instances: Annotated[
        int, serving_option(min=1, metavar="N", help="Copies of each network, on each GPU or on the CPU.")
    ] = DEFAULTS.instances,
    preprocess_instances: Annotated[
        int, serving_option(min=1, metavar="N", help="Processes of the preprocessing model.")
    ] = DEFAULTS.preprocess_instances,
    preprocess_parameter: Annotated[
        list[str],
        serving_option(
            metavar="KEY=VALUE",
            help=f"Parameter of the preprocessing model; repeatable: {', '.join(PreprocessingParameters.names())}.",
        ),
    ] = [],  # noqa: B006  (typer copies it)
) -> Serving:
    """Return what the options say; the signature is what the decorator gives to a command."""
    return Serving(
        max_batch_size=max_batch_size,
        queue_delay_us=queue_delay_us,
        max_queue_size=max_queue_size,
        queue_timeout_ms=queue_timeout_ms,
        instances=instances,
        preprocess_instances=preprocess_instances,
        preprocessing=PreprocessingParameters.parse(preprocess_parameter),
    )


def with_serving_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above, and as its first argument the Serving that they describe."""
    own = list(inspect.signature(command).parameters.values())[1:]
    shared = list(inspect.signature(_read_options).parameters.values())

    def with_options(**options: Any) -> None:
        serving = _read_options(**{parameter.name: options.pop(parameter.name) for parameter in shared})
        command(serving, **options)

    parameters = [*own, *shared]
    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    # typer reads the signature
    with_options.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return with_options
