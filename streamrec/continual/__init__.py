"""Ways of learning a stream without forgetting what should be kept."""
