"""Measurements: `costs` and `slow_clients` are run by ``python -m benchmarks.<name>`` and print a table.

``make bench`` runs them all, and ``make bench BENCHMARKS=slow_clients`` one. What a benchmark shows is asserted by a
test in ``tests/`` as well, by counting and not by time.
"""
