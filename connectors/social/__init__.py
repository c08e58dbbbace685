"""Social networks, forums and feeds."""
