"""What runs the model for a search: one contract (`decoding/engine.py`), an engine for each kind of hardware."""
