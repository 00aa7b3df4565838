"""Image sets: folders, tar shards, Parquet columns, .npz arrays."""
