import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nextpage.tokenizers.residual_kmeans import ResidualKMeans
from nextpage.tokenizers.shards import Shard
from tests.tokenizers.worker import CONFIG

PROCESSES = 2


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vectors, an odd number of them, and the codebooks that each of two processes learnt."""
    folder = tmp_path_factory.mktemp("shards")
    draw = np.random.default_rng(0)
    around = draw.normal(size=(40, 12)) * 3
    vectors = (around[draw.integers(40, size=1001)] + draw.normal(size=(1001, 12))).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    command = [sys.executable, "-m", "tests.tokenizers.worker", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    workers = [subprocess.Popen([*command, str(rank), str(PROCESSES)], env=environment) for rank in range(PROCESSES)]
    assert [worker.wait(timeout=240) for worker in workers] == [0] * PROCESSES
    return folder


def test_two_processes_learn_the_codebooks_of_one(clustered):
    alone = ResidualKMeans(CONFIG).fit(np.load(clustered / "vectors.npy")).codebooks_
    np.testing.assert_allclose(np.load(clustered / "codebooks-0.npy"), alone, rtol=0, atol=2e-4)


def test_all_processes_hold_the_same_codebooks(clustered):
    first, second = (np.load(clustered / f"codebooks-{rank}.npy") for rank in range(PROCESSES))
    np.testing.assert_array_equal(first, second)


def test_half_of_the_vectors_would_give_other_codebooks(clustered):
    """What the tolerance above can tell apart."""
    vectors = np.load(clustered / "vectors.npy")
    half = ResidualKMeans(CONFIG).fit(vectors[: len(vectors) // 2]).codebooks_
    assert np.abs(half - np.load(clustered / "codebooks-0.npy")).max() > 0.1


def test_a_shard_finds_its_rows_among_those_drawn():
    shard = Shard(x_ND=torch.arange(12.0).reshape(3, 4), start=5, rows=20)
    place, own = shard.own(torch.tensor([19, 7, 0, 5]))
    assert place.tolist() == [1, 3]
    assert own[:, 0].tolist() == [8.0, 0.0]
