"""Results for readers: a page for each release, a page for all of them, a block for a model card."""
