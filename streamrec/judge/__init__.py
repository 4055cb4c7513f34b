"""The judge: joins issued forecasts with what happened, from the two logs alone."""
