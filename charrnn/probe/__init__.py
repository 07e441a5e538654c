"""Probes: small models trained on small tasks that ask for one ability, and a verdict on what was foretold of it.

`verdict` is the rule and what a probe gives.
"""
