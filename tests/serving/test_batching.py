import asyncio
import threading

import pytest

from serving.batching import BatchingConfig, MicroBatcher
from serving.errors import Overloaded, TooLate


class Model:
    """Doubles numbers, remembers its batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, asked: list[int]) -> list[int]:
        self.free.wait(10)
        self.batches.append(asked)
        if 99 in asked:
            raise RuntimeError("99")
        return [2 * number for number in asked]


def batcher(model: Model, **config: float) -> MicroBatcher[int, int]:
    return MicroBatcher(model, BatchingConfig(**config))  # type: ignore[arg-type]


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    while not condition():
        await asyncio.sleep(0.001)


def test_concurrent_requests_share_batches_and_get_their_own_answers() -> None:
    model = Model()

    async def ask() -> list[int]:
        batches = batcher(model, most=8, wait_ms=200)
        answers = await asyncio.gather(*(batches.submit(number) for number in range(20)))
        batches.close()
        return answers

    assert asyncio.run(ask()) == [2 * number for number in range(20)]
    assert model.batches == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def test_lone_request_does_not_wait_for_a_full_batch() -> None:
    model = Model()

    async def ask() -> int:
        batches = batcher(model, most=8, wait_ms=1)
        return await asyncio.wait_for(batches.submit(4), 5)

    assert asyncio.run(ask()) == 8


def test_failure_is_told_only_to_the_request_that_brings_it() -> None:
    model = Model()

    async def ask() -> list[object]:
        batches = batcher(model, most=8, wait_ms=50)
        return await asyncio.gather(*(batches.submit(number) for number in (12, 99, 14)), return_exceptions=True)

    twelve, failing, fourteen = asyncio.run(ask())
    assert (twelve, fourteen) == (24, 28)
    assert isinstance(failing, RuntimeError)


def test_full_queue_refuses_at_once_and_serves_what_waits() -> None:
    model = Model()
    model.free.clear()

    async def ask() -> list[object]:
        batches = batcher(model, most=1, wait_ms=0, capacity=2)
        running = asyncio.create_task(batches.submit(0))
        await until(lambda: batches.waiting == 0 and not running.done())
        await asyncio.sleep(0.05)  # the first is in the model now
        waiting = [asyncio.create_task(batches.submit(number)) for number in (1, 2, 3)]
        await until(lambda: any(task.done() for task in waiting))
        model.free.set()
        return await asyncio.gather(running, *waiting, return_exceptions=True)

    *answers, refused = asyncio.run(ask())
    assert answers == [0, 2, 4]
    assert isinstance(refused, Overloaded)
    assert "2 requests are waiting" in str(refused)


def test_deadline_refuses_and_the_model_is_spared_what_nobody_waits_for() -> None:
    model = Model()
    model.free.clear()

    async def ask() -> list[object]:
        batches = batcher(model, most=1, wait_ms=0, deadline_s=0.05)
        late = await asyncio.gather(*(batches.submit(number) for number in (1, 2, 3)), return_exceptions=True)
        model.free.set()
        await until(lambda: batches.waiting == 0)
        assert await batches.submit(4) == 8
        return late

    assert all(isinstance(answer, TooLate) for answer in asyncio.run(ask()))
    assert model.batches == [[1], [4]]


def test_cancelled_request_is_not_run() -> None:
    model = Model()
    model.free.clear()

    async def ask() -> int:
        batches = batcher(model, most=1, wait_ms=0)
        running = asyncio.create_task(batches.submit(1))
        await asyncio.sleep(0.05)
        gone, kept = asyncio.create_task(batches.submit(2)), asyncio.create_task(batches.submit(3))
        await asyncio.sleep(0.01)
        gone.cancel()
        model.free.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await running
        return await kept

    assert asyncio.run(ask()) == 6
    assert model.batches == [[1], [3]]
