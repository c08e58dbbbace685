"""Chat and helpdesk."""
