"""Progress and results of sweeps for the user: displays, tables, status and Prometheus metrics."""
