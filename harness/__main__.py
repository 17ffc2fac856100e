"""``python -m harness``."""

if __name__ == "__main__":
    # Not above: a spawned worker imports this file too, and has no need of a command line.
    from harness.cli.verbs import main

    main()
