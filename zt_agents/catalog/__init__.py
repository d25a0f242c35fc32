"""What the organisation says about each tool, and what the tool looked like when that was said."""
