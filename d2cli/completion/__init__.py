"""What a shell completes: the values of options, and the answers to bash, zsh and fish."""
