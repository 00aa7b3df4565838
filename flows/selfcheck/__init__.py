"""The flow `selfcheck`: what this reference and encoder can detect, measured on the user's own images."""
