"""A server that is being started is asked again until it is ready, or the time is over."""

import time
from collections.abc import Callable

import pytest

from seresnext_client.errors import ModelNotFound, ServerOverloaded, ServerRefused, ServerUnreachable
from seresnext_client.waiting import wait_until


def answers(*outcomes: bool | Exception) -> tuple[Callable[[], bool], list[bool | Exception]]:
    """Return a condition with these outcomes, the last of them for ever, and the list of those that it had."""
    given: list[bool | Exception] = []

    def condition() -> bool:
        outcome = outcomes[min(len(given), len(outcomes) - 1)]
        given.append(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return condition, given


def test_a_server_that_becomes_ready_is_waited_for() -> None:
    condition, given = answers(ServerUnreachable("down"), ServerOverloaded("starting"), ModelNotFound("m"), False, True)
    wait_until(condition, 10)
    assert given[-1] is True
    assert len(given) == 5


@pytest.mark.parametrize("outcome", [False, ServerUnreachable("down")])
def test_the_wait_ends_with_the_time_and_without_an_error(outcome: bool | Exception) -> None:
    condition, given = answers(outcome)
    started = time.monotonic()
    wait_until(condition, 0.35)
    assert 0.35 <= time.monotonic() - started < 1
    assert 2 <= len(given) <= 4, "pauses grow"


def test_a_refusal_is_not_waited_for() -> None:
    condition, _ = answers(ServerRefused("forbidden"))
    with pytest.raises(ServerRefused):
        wait_until(condition, 10)
