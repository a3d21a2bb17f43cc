"""Which codes name an item: tokenizers, the table of semantic IDs, and how good the codes are."""
