"""Checks of data: before a training from metadata, and on request of every image and mask."""
