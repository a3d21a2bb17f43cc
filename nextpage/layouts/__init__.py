"""How a history becomes a token sequence, mask, positions and loss weights."""
