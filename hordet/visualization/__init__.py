"""Draws objects and class maps over images."""
