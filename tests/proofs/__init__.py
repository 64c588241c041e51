"""The programs that prove: simulation, faults, soak, fail-over, fuzz, benchmarks."""
