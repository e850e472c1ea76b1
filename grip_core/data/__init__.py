"""Benchmarks as examples: (image, question, answer, benchmark, split)."""
