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


async def submit(batches: MicroBatcher[int, int], number: int, **more: float) -> int:
    return (await batches.submit(number, **more))[0]


async def hold(model: Model, batches: MicroBatcher[int, int], *waiting: int) -> list[asyncio.Task[int]]:
    """Request 0 in the model until `model.free` is set, the others in the queue."""
    model.free.clear()
    tasks = [asyncio.create_task(submit(batches, 0))]
    await until(lambda: batches.running)
    for number in waiting:
        tasks.append(asyncio.create_task(submit(batches, number)))
        await asyncio.sleep(0)
    return tasks


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    while not condition():
        await asyncio.sleep(0.001)


def test_concurrent_requests_share_batches_and_get_their_own_answers() -> None:
    model = Model()

    async def ask() -> list[int]:
        batches = batcher(model, most=8, wait_ms=200)
        answers = await asyncio.gather(*(submit(batches, number) for number in range(20)))
        batches.close()
        return answers

    assert asyncio.run(ask()) == [2 * number for number in range(20)]
    assert model.batches == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def test_lone_request_does_not_wait_for_a_full_batch() -> None:
    model = Model()

    async def ask() -> int:
        batches = batcher(model, most=8, wait_ms=1)
        return await asyncio.wait_for(submit(batches, 4), 5)

    assert asyncio.run(ask()) == 8


def test_failure_is_told_only_to_the_request_that_brings_it() -> None:
    model = Model()

    async def ask() -> list[object]:
        batches = batcher(model, most=8, wait_ms=50)
        return await asyncio.gather(*(submit(batches, number) for number in (12, 99, 14)), return_exceptions=True)

    twelve, failing, fourteen = asyncio.run(ask())
    assert (twelve, fourteen) == (24, 28)
    assert isinstance(failing, RuntimeError)


def test_full_queue_refuses_at_once_and_serves_what_waits() -> None:
    model = Model()

    async def ask() -> list[object]:
        batches = batcher(model, most=1, wait_ms=0, capacity=2)
        tasks = await hold(model, batches, 1, 2)
        with pytest.raises(Overloaded, match="2 requests are waiting already"):
            await batches.submit(3)
        model.free.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(ask()) == [0, 2, 4]


def test_deadline_refuses_and_the_model_is_spared_what_nobody_waits_for() -> None:
    model = Model()
    model.free.clear()

    async def ask() -> list[object]:
        batches = batcher(model, most=1, wait_ms=0, deadline_s=0.05)
        late = await asyncio.gather(*(submit(batches, number) for number in (1, 2, 3)), return_exceptions=True)
        model.free.set()
        await until(lambda: not (batches.waiting or batches.running))
        assert await submit(batches, 4) == 8
        return late

    assert all(isinstance(answer, TooLate) for answer in asyncio.run(ask()))
    assert model.batches == [[1], [4]]


def test_cancelled_request_is_not_run() -> None:
    model = Model()

    async def ask() -> int:
        running, gone, kept = await hold(model, batcher(model, most=1, wait_ms=0), 2, 3)
        gone.cancel()
        model.free.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await running
        return await kept

    assert asyncio.run(ask()) == 6
    assert model.batches == [[0], [3]]


def test_where_one_request_of_a_call_fails_the_others_that_wait_are_not_run() -> None:
    model = Model()

    async def ask() -> None:
        batches = batcher(model, most=1, wait_ms=0)
        with pytest.raises(RuntimeError, match="99"):
            await batches.submit(99, 1, 2)
        assert await submit(batches, 3) == 6

    asyncio.run(ask())
    assert model.batches in ([[99], [3]], [[99], [1], [3]])  # the next may have begun before the call heard of it


# Admission


async def submit_and_cancel(batches: MicroBatcher[int, int]) -> None:
    """A request that is admitted now."""
    task = asyncio.create_task(submit(batches, 9))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def taught(model: Model, **config: float) -> MicroBatcher[int, int]:
    """A batcher that has seen batches take 10 ms and 20 ms a request."""
    batches = batcher(model, wait_ms=0, **config)
    for size in (1, 2, 4, 8) * 20:
        batches.run_time.learn(size, 0.01 + 0.02 * size)
    return batches


def test_batches_take_no_longer_than_half_the_target() -> None:
    model = Model()

    async def ask() -> None:
        batches = taught(model, target_ms=320)
        tasks = await hold(model, batches, *range(1, 17))
        model.free.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(ask())
    assert [len(batch) for batch in model.batches[:2]] == [1, 7]  # 10 + 7 · 20 ≤ 160 ms


def test_what_would_break_the_target_is_refused_at_once_and_told_when_to_come_again() -> None:
    model = Model()

    async def ask() -> Overloaded:
        batches = taught(model, target_ms=2000, capacity=1000)
        tasks = await hold(model, batches, *range(1, 200))
        admitted = [task for task in tasks if not task.done()]
        assert 90 <= len(admitted) <= 100  # of 20 ms each, and 10 ms a batch
        with pytest.raises(Overloaded, match=r"more than the 2 s that are promised") as refused:
            await batches.submit(5)
        model.free.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return refused.value

    refused = asyncio.run(ask())
    assert (refused.http_status, refused.retry_after_s) == (429, 2)


def test_a_batch_that_is_overdue_refuses_what_else_would_wait_behind_it() -> None:
    model = Model()

    async def ask() -> None:
        batches = taught(model, target_ms=200)
        tasks = await hold(model, batches, 1)
        await submit_and_cancel(batches)
        await asyncio.sleep(0.4)
        with pytest.raises(Overloaded):
            await batches.submit(2)
        model.free.set()
        await asyncio.gather(*tasks)

    asyncio.run(ask())


def test_a_call_is_admitted_whole_or_not_at_all() -> None:
    model = Model()

    async def ask() -> None:
        batches = taught(model, target_ms=500)
        tasks = await hold(model, batches, 1, 2)
        with pytest.raises(Overloaded):
            await batches.submit(*range(3, 40))
        assert batches.waiting == 2
        model.free.set()
        await asyncio.gather(*tasks)
        assert len(await batches.submit(*range(40))) == 40  # an idle server refuses nothing

    asyncio.run(ask())


def test_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    model = Model()

    async def ask() -> None:
        batches = taught(model)
        tasks = await hold(model, batches, *range(1, 10))
        with pytest.raises(TooLate, match=r"would take 0\.2\d s, more than the 0\.1 s that are left"):
            await batches.submit(5, within_s=0.1)
        tasks.append(asyncio.create_task(submit(batches, 5, within_s=4)))
        model.free.set()
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    assert [5] not in model.batches


def test_without_a_target_only_a_full_queue_refuses() -> None:
    model = Model()

    async def ask() -> None:
        batches = taught(model, target_ms=0, capacity=1000, deadline_s=1000)
        tasks = await hold(model, batches, *range(1, 900))
        assert not any(task.done() for task in tasks)
        model.free.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(ask())
    assert max(map(len, model.batches)) == 32


def test_an_idle_server_tries_what_it_expects_to_fail_and_learns_that_it_was_wrong() -> None:
    model = Model()

    async def ask() -> None:
        batches = batcher(model, wait_ms=0, target_ms=100)
        batches.run_time.learn(1, 30.0)
        for number in (1,) * 300:
            assert await submit(batches, number, within_s=1.0) == 2 * number
        assert batches.expected_s(count=1, work=1) < 1.0

    asyncio.run(ask())
