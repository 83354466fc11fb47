"""The neck study: trainings compared with one another."""
