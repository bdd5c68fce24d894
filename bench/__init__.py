"""What a request through the gateway costs, beside other proxies, in one run: `python -m bench`."""
