"""Costs of models (parameters, multiply-adds, milliseconds, memory), and the study of necks."""
