"""Faults that the tests of the guarantees have to find."""
