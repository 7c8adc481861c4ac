"""The sweep file, and the checks that run before any compute is spent."""
