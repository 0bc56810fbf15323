"""How long to wait: what headers say, in every form that endpoints use."""

import asyncio

import pytest

from trimtab_training.synthesis.pacing import Halted, Pacer, duration_s

WAIT_S = 60


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3s", 3723.0),
        ("7.66s", 7.66),
        ("20", 20.0),
        ("", None),
        ("soon", None),
        ("3 sheep", None),
    ],
)
def test_durations_are_read(text: str, wanted: float | None) -> None:
    assert duration_s(text) == wanted


def test_reset_that_is_far_off_holds_back_two_minutes_at_most() -> None:
    naps: list[float] = []
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        naps.append(seconds)
        now += seconds

    async def wait() -> None:
        pacer = Pacer(sleep=sleep, clock=lambda: now)
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8h"}
        pacer.note(headers, 100)
        await pacer.turn()

    asyncio.run(wait())
    assert 120 <= naps[0] <= 121


def test_halt_ends_every_wait() -> None:
    async def wait() -> None:
        pacer = Pacer()
        pacer.pause(3600.0)
        waiting = asyncio.ensure_future(pacer.turn())
        await asyncio.sleep(0)
        pacer.halt()
        async with asyncio.timeout(WAIT_S):  # or it waits for the hour
            with pytest.raises(Halted):
                await waiting
            with pytest.raises(Halted):
                await pacer.turn()

    asyncio.run(wait())
