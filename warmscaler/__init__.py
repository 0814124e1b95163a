"""Scaler, a predictive autoscaler for serverless platforms; the command is `scaler`."""
