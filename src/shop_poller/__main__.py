"""Where the command begins. A container asks `healthy` every half minute: that does without the rest."""

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] == ["healthy"]:
        from shop_poller import healthy  # noqa: PLC0415 - see the module's docstring

        sys.exit(healthy.main())

    from shop_poller import cli  # noqa: PLC0415

    cli.main()


if __name__ == "__main__":
    main()
