"""CRM: tickets and feedback kept beside customers."""
