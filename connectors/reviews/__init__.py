"""Review sites and app stores."""
