"""Tidy table -> matplotlib Figure, one function a file, no statistics inside; and the report that shows them."""
