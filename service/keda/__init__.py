"""KEDA's external scaler: replicas ahead of time, for whatever KEDA scales."""
