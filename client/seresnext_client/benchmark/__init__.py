"""Benchmarks of a server, by NVIDIA's perf_analyzer with real pictures, and a report that people can read."""
