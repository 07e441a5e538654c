"""Probes: what a model can remember."""
