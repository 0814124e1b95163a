"""The offline pipeline: fit, evaluate, report, promote."""
