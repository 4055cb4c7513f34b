"""One forecast out of many experts, with a bound on what mixing can cost."""
