"""Benchmarks of a server, by NVIDIA's perf_analyzer with real images, and a report of them."""
