"""Benchmarks: each prints ratios to peers that were measured in the same run."""
