"""Residual k-means: each level quantises what the levels before it left over. SID(v) = (s¹, s², s³), GenRec Eq. 1."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nextpage.progress import track
from nextpage.tokenizers.kmeans import CHUNK, kmeans, nearest


@dataclass(frozen=True, kw_only=True)
class ResidualKMeansConfig:
    """`steps` mini-batches of `batch` vectors fit one level; see nextpage/tokenizers/kmeans.py."""

    levels: int = 3
    codes: int = 256
    steps: int = 30
    batch: int = 32_768
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("levels", "codes", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"residual k-means: {name} is {getattr(self, name)}, it must be at least 1")

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.codes,) * self.levels


class ResidualKMeans:
    """`fit` learns `codebooks_`, float32 [L, K, D].

    On a CPU the same seed and thread count give the same codebooks. CUDA adds in no fixed order, which shows in the
    last bits, unless `torch.use_deterministic_algorithms(True)` is set.
    """

    codebooks_: np.ndarray

    def __init__(self, config: ResidualKMeansConfig | None = None):
        self.config = config or ResidualKMeansConfig()

    def fit(self, vectors: np.ndarray) -> "ResidualKMeans":
        """Learn from float32 [N, D]. Needs twice the vectors' memory; L · steps · batch · K · D multiplications.

        Under torch.distributed N are this process's vectors, and all processes learn the same codebooks of all vectors.
        """
        config = self.config
        if not np.isfinite(vectors).all():
            raise ValueError("item vectors hold NaN or infinity: does the encoder divide by the norm of empty text?")
        residual_ND = self._tensor(vectors)
        generator = torch.Generator().manual_seed(config.seed)
        codebooks = []
        for _ in track(range(config.levels), total=config.levels, unit="level", title="residual k-means"):
            codebook_KD = kmeans(
                residual_ND, centres=config.codes, steps=config.steps, batch=config.batch, generator=generator
            )
            _subtract(residual_ND, codebook_KD)
            codebooks.append(codebook_KD)
        self.codebooks_ = torch.stack(codebooks).cpu().numpy()
        return self

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Nearest codes, level by level: int32 [N, L] of float32 [N, D]. Equal vectors get equal codes."""
        residual_ND = self._tensor(vectors)
        codebooks_LKD = torch.from_numpy(self.codebooks_).to(self.config.device)
        codes = [_subtract(residual_ND, codebook_KD) for codebook_KD in codebooks_LKD]
        return torch.stack(codes, dim=1).int().cpu().numpy()

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The vectors that codes [N, L'] stand for, float32 [N, D]; with L' < L, the centres of their cells."""
        vectors = np.zeros((len(codes), self.codebooks_.shape[2]), dtype=np.float32)
        for level in range(codes.shape[1]):
            vectors += self.codebooks_[level, codes[:, level]]
        return vectors

    def _tensor(self, vectors: np.ndarray) -> Tensor:
        """A copy on the device: the levels change it."""
        return torch.tensor(vectors, dtype=torch.float32, device=self.config.device)

    @staticmethod
    def of(codebooks: np.ndarray) -> "ResidualKMeans":
        """A fitted tokenizer with these codebooks, float32 [L, K, D]; it encodes on the CPU."""
        levels, codes, _ = codebooks.shape
        quantiser = ResidualKMeans(ResidualKMeansConfig(levels=levels, codes=codes))
        quantiser.codebooks_ = codebooks
        return quantiser


def _subtract(residual_ND: Tensor, codebook_KD: Tensor) -> Tensor:
    """Take each vector's nearest code away from it, in place; the codes, int64 [N]."""
    index_N, _ = nearest(residual_ND, codebook_KD)
    for chunk_BD, index_B in zip(torch.split(residual_ND, CHUNK), torch.split(index_N, CHUNK), strict=True):
        chunk_BD -= codebook_KD[index_B]
    return index_N
