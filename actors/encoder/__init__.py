"""The encoder: a timm model with its weights, the decoding of images, the embeddings of all layers."""
