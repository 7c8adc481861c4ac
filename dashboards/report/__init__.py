"""The report page, tables and figures of a sweep."""
