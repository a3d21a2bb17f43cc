"""Items to semantic IDs, and the gate on their health."""
