"""A shard: one process that owns a subset of the node's connections."""
