"""The MLflow record of a sweep."""
