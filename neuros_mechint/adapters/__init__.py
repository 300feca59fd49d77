"""One interface over every kind of model: named sites, capture, edits."""
