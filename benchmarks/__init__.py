"""Measurements, each a module that is run by ``python -m benchmarks.<name>`` and prints a table.

``make bench`` runs them all, and ``make bench BENCHMARKS=slow_clients`` one. What a benchmark shows is asserted by a
test in ``tests/`` as well, by counting and not by time.
"""
