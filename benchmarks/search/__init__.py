"""The search on tables of finished trainings, and against real sweeps: ``python -m benchmarks.search``."""
