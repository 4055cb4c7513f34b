"""What the command line takes: every verb with its arguments, options and help; `verbs` does the work."""
