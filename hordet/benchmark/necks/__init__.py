"""Trainings compared with one another: the neck study."""
