import numpy as np
import pytest
import torch

from nextpage.tokenizers.kmeans import kmeans, nearest, plus_plus


def blobs(count: int, each: int, *, seed: int = 0, spread: float = 0.05) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 8, generator=draw)
    noise = spread * torch.randn(count * each, 8, generator=draw)
    return (centres.repeat_interleave(each, 0) + noise)[torch.randperm(count * each, generator=draw)]


def inertia(x: torch.Tensor, centres: torch.Tensor) -> float:
    return float((x[:, None] - centres[None]).square().sum(2).min(1).values.sum())


def test_nearest_agrees_with_the_definition():
    x, centres = torch.randn(5000, 8), torch.randn(17, 8)
    index, distance = nearest(x, centres)
    every = (x[:, None] - centres[None]).square().sum(2)
    torch.testing.assert_close(distance, every.min(1).values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(every.gather(1, index[:, None])[:, 0], every.min(1).values)


@pytest.mark.parametrize("batch", [10_000, 256])
def test_planted_clusters_are_found_by_whole_and_by_mini_batches(batch):
    x = blobs(12, 100)
    centres = kmeans(x, centres=12, steps=20, batch=batch, generator=torch.Generator().manual_seed(0))
    assert inertia(x, centres) / len(x) < 1.2 * 8 * 0.05**2


def test_mini_batches_come_close_to_scikit_learn():
    from sklearn.cluster import MiniBatchKMeans

    x = blobs(60, 50, spread=0.6)
    ours = kmeans(x, centres=30, steps=40, batch=512, generator=torch.Generator().manual_seed(0))
    theirs = MiniBatchKMeans(30, batch_size=512, n_init=3, random_state=0).fit(x.numpy())
    assert inertia(x, ours) < 1.05 * theirs.inertia_


def test_whole_batches_never_make_it_worse():
    x = blobs(20, 30, spread=0.8)
    worth = [
        inertia(x, kmeans(x, centres=9, steps=steps, batch=1000, generator=torch.Generator().manual_seed(3)))
        for steps in (1, 2, 4, 8, 16)
    ]
    assert worth == sorted(worth, reverse=True)


def test_no_centre_stays_empty_while_vectors_are_left():
    x = torch.cat([torch.zeros(500, 8), blobs(20, 5, spread=0.01)])  # most of the mass in one point
    centres = kmeans(x, centres=20, steps=20, batch=10_000, generator=torch.Generator().manual_seed(0))
    assert len(nearest(x, centres)[0].unique()) == 20


def test_a_centre_that_no_vector_needs_moves_to_one_that_does(monkeypatch):
    x = blobs(6, 50)
    lost = torch.cat([x[:1].repeat(5, 1) + 100, x[:1]])
    monkeypatch.setattr("nextpage.tokenizers.kmeans.plus_plus", lambda *_: lost.clone())
    centres = kmeans(x, centres=6, steps=20, batch=1000, generator=torch.Generator().manual_seed(0))
    assert len(nearest(x, centres)[0].unique()) == 6


def test_the_start_spreads_over_the_clusters():
    x = blobs(10, 200, spread=0.01)
    start = plus_plus(x, 10, torch.Generator().manual_seed(0))
    labels, _ = nearest(x, start)
    assert len(labels.unique()) == 10
    assert inertia(x, start) / len(x) < 4 * 8 * 0.01**2


def test_fewer_distinct_vectors_than_centres_are_all_met():
    x = torch.from_numpy(np.eye(3, dtype=np.float32)).repeat(5, 1)
    centres = kmeans(x, centres=8, steps=5, batch=100, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(centres).all()
    assert float(nearest(x, centres)[1].max()) < 1e-6


def test_no_vectors_is_an_error():
    with pytest.raises(ValueError, match="no vectors"):
        kmeans(torch.zeros(0, 4), centres=2, steps=1, batch=1, generator=torch.Generator())
