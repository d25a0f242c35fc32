"""Where values come from, and how sensitive they are."""
