"""Comparisons: a grid of training runs, each a process of its own, and what can honestly be said of them.

`grid` is what was asked for, `plan` what is to be run, `match` the widths that make it fair, `work` the running,
`outcome` the statistics, `data` what more text is worth, `evaluation` and `generation` how fast a model scores and
draws.
"""
