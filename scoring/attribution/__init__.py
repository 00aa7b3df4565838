"""Which known model made a set of images."""
