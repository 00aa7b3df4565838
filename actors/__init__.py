"""Heavy work: the encoder, workers, stages, and the Ray processes that run them."""
