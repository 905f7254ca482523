"""Generating: what may come next, how it is drawn, and the engine that runs many rows side by side."""
