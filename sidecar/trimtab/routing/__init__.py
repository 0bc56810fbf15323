"""Which adapter a collection and vector name take, and vectors through it."""
