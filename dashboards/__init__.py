"""Records and views of a sweep: its journal, its MLflow record, its tables and its pages."""
