"""Where things are kept: objects, image sets, vectors, results."""
