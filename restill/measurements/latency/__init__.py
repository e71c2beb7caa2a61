"""Latency of exported artifacts: each in a fresh process of its own, asked in turn, block against block.

`measuring` is the whole of it: `conducting` starts the processes (`arm`) and takes the timings, `summary` makes a
`Latency` of them, `disturbance` says whether the machine held still, and `orders` has all of that done on another
machine. Nothing is imported here: an arm starts for each measurement, and must not wait for libraries of statistics.
"""
