"""What a person browses: the journal of a sweep, its MLflow record, its tables and its pages."""
