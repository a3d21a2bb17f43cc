"""Requests share runs of the model, and are refused before the queue breaks the latency that is promised."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from serving.errors import Overloaded, TooLate
from serving.metrics import BATCH_SIZE
from serving.run_time import RunTime

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")
FEWEST = 4
"""Requests that a batch takes if they wait, whatever they are expected to cost: else what a larger batch costs would
never be learnt."""


@dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """`target_ms`: from a request to its answer; a batch may take half of it, so that who comes while one runs is
    answered in time by the next. 0: batches of any length, and only `capacity` refuses."""

    most: int = 32  # requests in a batch
    wait_ms: float = 1.0  # how long the first request of a batch waits for others
    target_ms: float = 1000.0
    capacity: int = 256  # requests that may wait, whatever they are expected to take
    deadline_s: float = 5.0  # after which a request is refused rather than answered


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting(Generic[Asked, Answered]):
    asked: Asked
    work: float
    came: float  # by the loop's clock
    answer: "asyncio.Future[Answered]"


class MicroBatcher(Generic[Asked, Answered]):
    """Runs batches in one thread. While one runs the next collects, so under load batches grow by themselves, up to
    what `run_time`, learnt as they run, allows.

    `work` says how much of a batch's time a request takes, in any unit. A request that was cancelled, or is too late,
    while it waits is not run.
    """

    def __init__(
        self,
        run: Callable[[list[Asked]], list[Answered]],
        config: BatchingConfig,
        work: Callable[[Asked], float] = lambda _: 1.0,
    ) -> None:
        self.run_time = RunTime()
        self._run = run
        self._work = work
        self._config = config
        self._target_s = config.target_ms / 1000 or math.inf
        self._waiting: deque[_Waiting[Asked, Answered]] = deque()
        self._came = asyncio.Event()
        self._running_until: float | None = None  # as expected; None: nothing runs
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._loop: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return sum(not each.answer.done() for each in self._waiting)

    @property
    def running(self) -> bool:
        """Whether the model runs."""
        return self._running_until is not None

    def expected_s(self, count: int = 0, work: float = 0.0) -> float:
        """How long `count` more requests of so much work would take to be answered."""
        queue = [each.work for each in self._waiting if not each.answer.done()]
        count, work = count + len(queue), work + sum(queue)
        fits = self.run_time.work_within(self._target_s / 2)
        batches = max(math.ceil(count / self._config.most), math.ceil(work / fits))
        running = 0.0
        if self._running_until is not None:  # what is overdue is expected to stay so for as long again
            running = abs(self._running_until - asyncio.get_running_loop().time())
        return running + (self.run_time.estimate(work, batches) if count else 0.0)

    async def submit(self, *asked: Asked, within_s: float | None = None) -> list[Answered]:
        """The answers to requests of one call, all or none.

        Raises Overloaded where they would wait longer than the target, and TooLate where no answer comes `within_s`, by
        default the deadline; both at once where that can be foreseen. An idle server tries whatever it expects: else it
        could not learn that it was wrong.
        """
        within_s = self._config.deadline_s if within_s is None else within_s
        work = [self._work(one) for one in asked]
        self._admit(len(asked), sum(work), within_s)
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = asyncio.create_task(self._run_forever())
        ours = [
            _Waiting[Asked, Answered](asked=one, work=part, came=loop.time(), answer=loop.create_future())
            for one, part in zip(asked, work, strict=True)
        ]
        self._waiting.extend(ours)
        self._came.set()
        try:
            async with asyncio.timeout(within_s if within_s < math.inf else None):
                return await asyncio.gather(*(each.answer for each in ours))
        except TimeoutError:
            raise TooLate(f"no answer within {within_s:g} s: try again later") from None
        finally:
            for each in ours:
                each.answer.cancel()  # where one of a call fails, nobody waits for the others

    def _admit(self, count: int, work: float, within_s: float) -> None:
        waiting, expected_s = self.waiting, self.expected_s(count, work)
        if waiting and waiting + count > self._config.capacity:
            raise Overloaded(f"{waiting} requests are waiting already: try again later", self._retry_after_s())
        if waiting and expected_s > self._target_s:
            raise Overloaded(
                f"the answer would take {expected_s:.2f} s, more than the {self._target_s:g} s that are promised: "
                "try again later",
                self._retry_after_s(),
            )
        if (waiting or self.running) and expected_s > within_s:
            raise TooLate(f"the answer would take {expected_s:.2f} s, more than the {within_s:g} s that are left")

    def _retry_after_s(self) -> int:
        """Until what waits now is answered."""
        return max(1, math.ceil(self.expected_s()))

    async def _run_forever(self) -> None:
        while True:
            if batch := await self._collect():
                BATCH_SIZE.observe(len(batch))
                await self._answer(batch)

    async def _collect(self) -> list[_Waiting[Asked, Answered]]:
        loop = asyncio.get_running_loop()
        while len(self._waiting) < self._config.most:
            left = None
            if self._waiting:
                left = self._waiting[0].came + self._config.wait_ms / 1000 - loop.time()
                if left <= 0:
                    break
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), left)
            except TimeoutError:
                break
        batch: list[_Waiting[Asked, Answered]] = []
        fits = self.run_time.work_within(self._target_s / 2)
        while self._waiting and len(batch) < self._config.most:
            if not self._waiting[0].answer.done():
                fits -= self._waiting[0].work
                if len(batch) >= FEWEST and fits < 0:
                    break
                batch.append(self._waiting[0])
            self._waiting.popleft()
        return batch

    async def _answer(self, batch: list[_Waiting[Asked, Answered]]) -> None:
        loop, work = asyncio.get_running_loop(), sum(each.work for each in batch)
        began = loop.time()
        self._running_until = began + self.run_time.estimate(work)
        try:
            answers = await loop.run_in_executor(self._thread, self._run, [each.asked for each in batch])
        except Exception as failure:
            if len(batch) > 1:  # which request brought it is not known: each is tried alone
                for each in batch:
                    await self._answer([each])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(failure)
            return
        finally:
            self._running_until = None
        self.run_time.learn(work, loop.time() - began)
        for each, value in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(value)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
