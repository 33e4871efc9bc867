"""The shell's commands: thin, each a `main(argv) -> exit code`. Results go to standard output, everything else to standard error."""
