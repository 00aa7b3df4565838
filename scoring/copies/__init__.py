"""The copy score: whether an image is a training image, whole or in part, however it was altered."""
