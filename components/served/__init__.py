"""Which release serves now."""
