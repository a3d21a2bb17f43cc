"""Windows on long histories that stay where they are while a history grows: what a prompt cache needs.

The last n events begin one event later with every new one, and then no prompt begins like the one before. A window that
begins at an *anchor* slides in jumps: of the events at which it may begin, that of the least hash (winnowing, Schleimer
et al., SIGMOD 2003). The anchor stays the same until it falls out of reach or an event of a lesser hash comes into it,
every slack / 2 new events or so; and it follows from the events alone, wherever the history that is told begins.
"""

import numpy as np

from nextpage.interactions.sequences import Sequences


def anchored(histories: Sequences, most: int, slack: int) -> Sequences:
    """Histories of more than `most` events cut to between `most - slack` + 1 and `most` of the last."""
    with np.errstate(over="ignore"):
        mixed = histories.item.astype(np.uint64) * _FIRST ^ histories.time.astype(np.uint64) * _SECOND
        order = (mixed ^ mixed >> np.uint64(32)) * _FIRST
    keep = np.ones(len(histories.item), dtype=bool)
    for begins, ends in zip(histories.offset[:-1], histories.offset[1:], strict=True):
        if ends - begins > most:
            first = ends - most
            keep[begins : first + np.argmin(order[first : first + slack])] = False
    return histories.select(keep)


_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
