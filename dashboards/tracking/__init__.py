"""Publishing a sweep to MLflow and reading it back."""
