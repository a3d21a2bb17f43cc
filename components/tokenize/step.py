"""The tokenizer learnt from a clean dataset, here or by processes of its own, and the verdict on it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from components.placement import Placement
from components.processes import run_processes, work_folder
from nextpage.gates import Verdict
from nextpage.interactions.log import Dataset
from nextpage.recipes import parse_recipe
from nextpage.tokenizers.item_tokenizer import TokenizerConfig
from nextpage.tokenizers.quality import QualityBounds, QualityReport, quality_verdict
from nextpage.tokenizers.tokenize_dataset import QUALITY, SEMANTIC_IDS, tokenize_dataset


@dataclass(frozen=True, kw_only=True)
class TokenizeResult:
    report: QualityReport
    verdict: Verdict

    def figures(self) -> dict[str, float]:
        """What the UI compares between runs."""
        figures = {f"coverage_{level}": quality.coverage for level, quality in enumerate(self.report.levels)}
        figures |= {f"perplexity_{level}": quality.perplexity for level, quality in enumerate(self.report.levels)}
        figures["error"] = self.report.levels[-1].error
        figures["colliding_before"] = self.report.colliding_before
        figures["colliding_after"] = self.report.colliding_after
        return figures


def tokenize(
    clean: Path,
    tokenizer: Path,
    config: TokenizerConfig | None = None,
    bounds: QualityBounds | None = None,
) -> TokenizeResult:
    """Read the dataset folder `clean`, write the folder `tokenizer`; see README.md for what lies in it."""
    tokenize_dataset(clean, tokenizer, config or TokenizerConfig())
    return _judged(tokenizer, bounds or QualityBounds())


def tokenize_together(
    clean: Path, tokenizer: Path, recipe: Path, *, checkpoints: Path, placement: Placement
) -> TokenizeResult:
    """As `tokenize`, with the work shared by the processes of `placement`; `recipe` is a resolved recipe's file.

    They meet in a folder under `checkpoints`, which all of them must see.
    """
    dataset = Dataset(folder=clean)
    work = work_folder(checkpoints, (dataset.interactions, dataset.items, recipe))
    told = {"clean": clean, "recipe": recipe, "output": work}
    run_processes("tokenizing", "nextpage.tokenizers", told, result=SEMANTIC_IDS, placement=placement)
    shutil.copytree(work, tokenizer, dirs_exist_ok=True)
    shutil.rmtree(work)
    return _judged(tokenizer, parse_recipe(recipe.read_text()).part("tokenizer_quality", QualityBounds))


def _judged(tokenizer: Path, bounds: QualityBounds) -> TokenizeResult:
    report = QualityReport.read(tokenizer / QUALITY)
    return TokenizeResult(report=report, verdict=quality_verdict(report, bounds))
