"""Surveys: NPS, CSAT, CES and what people write beside them."""
