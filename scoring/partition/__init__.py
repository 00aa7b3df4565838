"""PCA and cells of the training images."""
