"""The procedural corpus: sentences from a grammar, spoken by flite and espeak-ng, deterministic from a seed."""
