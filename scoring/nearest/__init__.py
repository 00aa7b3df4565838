"""Nearest training images."""
