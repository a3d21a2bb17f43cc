"""GenRec's schedule: linear warm-up, then a cosine to zero."""

import math


def learning_rate(step: int, *, steps: int, peak: float, warmup: float) -> float:
    """The rate of step 0 … steps − 1; `warmup` is a share of the steps."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
