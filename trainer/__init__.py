"""How shards become a model."""
