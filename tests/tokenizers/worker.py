"""One of several processes that cluster together: `python -m tests.tokenizers.worker FOLDER RANK PROCESSES`.

Learns from its share of FOLDER/vectors.npy and writes FOLDER/codebooks-RANK.npy.
"""

import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist

from nextpage.tokenizers.residual_kmeans import ResidualKMeans, ResidualKMeansConfig
from nextpage.tokenizers.shards import share

CONFIG = ResidualKMeansConfig(codes=16, steps=10, batch=400)
"""Less than all vectors a batch, so that what is drawn matters, and means fade."""


def main() -> None:
    folder, rank, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=processes)
    vectors = np.load(folder / "vectors.npy")
    np.save(folder / f"codebooks-{rank}.npy", ResidualKMeans(CONFIG).fit(vectors[share(len(vectors))]).codebooks_)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
