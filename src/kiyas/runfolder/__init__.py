"""What lies on disk: names, typed records, atomic writes."""
