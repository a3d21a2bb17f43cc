"""One run of the model for several requests, off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from serving.errors import Overloaded, TooLate
from serving.metrics import BATCH_SIZE

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


@dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    most: int = 32  # requests in a batch
    wait_ms: float = 1.0  # how long the first request of a batch waits for others
    capacity: int = 256  # requests that may wait; more are refused
    deadline_s: float = 5.0  # after which a request is refused rather than answered


class MicroBatcher(Generic[Asked, Answered]):
    """Collects requests until a batch is full or its first has waited long enough, and runs them in one thread.

    While a batch runs the next collects, so under load batches grow by themselves. A request that was cancelled
    while it waited is not run.
    """

    def __init__(self, run: Callable[[list[Asked]], list[Answered]], config: BatchingConfig) -> None:
        self._run = run
        self._config = config
        self._waiting: asyncio.Queue[tuple[Asked, asyncio.Future[Answered]]] = asyncio.Queue(config.capacity)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._loop: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting.qsize()

    async def submit(self, asked: Asked) -> Answered:
        """The answer, or Overloaded (the queue is full) or TooLate (the deadline passed)."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._collect_forever())
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((asked, answer))
        except asyncio.QueueFull:
            raise Overloaded(f"{self._config.capacity} requests are waiting already: try again later") from None
        try:
            return await asyncio.wait_for(answer, self._config.deadline_s)
        except TimeoutError:
            raise TooLate(f"no answer within {self._config.deadline_s} s: try again later") from None

    async def _collect_forever(self) -> None:
        while True:
            batch = [(asked, answer) for asked, answer in await self._collect() if not answer.done()]
            if batch:
                BATCH_SIZE.observe(len(batch))
                await self._answer(batch)

    async def _collect(self) -> list[tuple[Asked, asyncio.Future[Answered]]]:
        batch = [await self._waiting.get()]
        closes = asyncio.get_running_loop().time() + self._config.wait_ms / 1000
        while len(batch) < self._config.most:
            try:
                batch.append(self._waiting.get_nowait())
                continue
            except asyncio.QueueEmpty:
                left = closes - asyncio.get_running_loop().time()
            if left <= 0:
                break
            try:
                batch.append(await asyncio.wait_for(self._waiting.get(), left))
            except TimeoutError:
                break
        return batch

    async def _answer(self, batch: list[tuple[Asked, asyncio.Future[Answered]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._run, [asked for asked, _ in batch])
        except Exception as failure:
            if len(batch) > 1:  # which request brought it is not known: each is tried alone
                for one in batch:
                    await self._answer([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(failure)
            return
        for (_, answer), value in zip(batch, answers, strict=True):
            if not answer.done():
                answer.set_result(value)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
