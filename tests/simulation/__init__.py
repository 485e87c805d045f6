"""Simulated histories of the real modules, under one seeded scheduler.

    make simulate                 100,000 histories on two cores
    make simulate SEED=7          one history, printed line by line
    make simulate-planted         planted defects, each of which a history has to show

A seed makes a plan (plan.py). A history plays the plan (history.py) in a world of its own
(world.py), with a simulated Ecwid, network and storage. The judge (invariants.py) reads the ledger
afterwards.
"""
