"""Probes: small models trained on small tasks that ask for one ability, and a verdict on what was foretold of it.

`protocols` is what is trained on and foretold, `settings` what was asked, `learn` one model trained and tested, `work`
the running, `measures` what the rows say together, `verdict` the rule and what a probe gives. `context` and `gradient`
measure on real text, of any model, how far back it looks and how far back its gradients reach.
"""
