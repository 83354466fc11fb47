"""The neck study: trainings with different necks, compared with each other."""
