"""The benchmark: `make bench` and `make bench-large`. Not tests: they measure, tests assert."""
