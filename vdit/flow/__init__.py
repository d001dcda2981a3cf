"""The mathematics of flow matching; it knows no model."""
