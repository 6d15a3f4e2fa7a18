"""What is measured, and against what. `make bench` runs all of it, `make bench BENCH=features` one part."""
