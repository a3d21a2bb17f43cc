"""Build engines for a run's release and print how right and how fast they are here: the card of `optimise`.

    python benchmarks/engines.py runs/demo [--requests 400] [--repeats 20] [--quick]

All is real: the release, its catalogue, held-out requests of the validation weeks. The reference is torch in fp32;
`torch` is what would serve without engines, in bf16, on as many threads as torch is given (OMP_NUM_THREADS). Latency is
the median of searches for 50 items at the recipe's beam width, engines in turn. Nothing is written into the run.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from components.optimise.card import step_card
from components.optimise.config import OptimiseConfig
from components.optimise.step import optimise
from nextpage.recipes import read_recipe
from pipelines.local import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="40 requests, 3 repeats: too few for int8's gate.")
    told = parser.parse_args()
    run, release = Run(folder=told.run), told.run / "release"
    asked = {"requests": 40, "repeats": 3} if told.quick else {"requests": told.requests, "repeats": told.repeats}
    config = replace(read_recipe(release / "recipe.yaml").part("optimise", OptimiseConfig), **asked)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        outcome = optimise(
            release=release,
            features=run.output("features", "features"),
            clean=run.output("validate", "clean"),
            optimised=Path(made),
            config=config,
        )
    print(f"\n{step_card(outcome)}\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
