"""The log: one row per shown item, and what the rest of the house reads from it."""
