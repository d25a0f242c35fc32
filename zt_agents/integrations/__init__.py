"""One leaf per framework. Nothing here is imported unless its framework is used."""
