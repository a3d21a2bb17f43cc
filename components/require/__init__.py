"""Stop the run where a gate's verdict says so."""
