"""One folder a step: its KFP definition (`component.py`), its glue (`step.py`), and a README."""
