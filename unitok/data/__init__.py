"""From manifests to batches: record shards, their preparation, mixing, and the procedural corpus."""
