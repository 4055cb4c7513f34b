"""What is learned and kept: user rows, count tables, the vocabulary and the file of a lane."""
