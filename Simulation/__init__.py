"""The online store under load: calls at a rate whether or not those before have ended, and what their callers see.

`python -m Simulation.worker` makes calls and writes what comes of them, `python -m Simulation.report` tells of them.
"""
