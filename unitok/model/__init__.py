"""The networks: a codec language model (global, local, refiner) and a small neural codec. No Lightning, no files."""
