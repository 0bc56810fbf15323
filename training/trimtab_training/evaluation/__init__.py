"""What an exported model is worth on test queries: measured, compared, judged, recorded."""
