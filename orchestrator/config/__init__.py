"""The sweep file, and what is known to be wrong with it before any compute is spent."""
