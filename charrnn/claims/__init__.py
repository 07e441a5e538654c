"""What is claimed of recurrent networks, each claim an experiment.

`parts` is what is run, commands of charrnn itself; `work` runs them; `judge` says what they say of each claim; `page`
writes it down.
"""
