"""The documented rules of services, as servers that run on this machine: one module a service.

Tests and `ovoz connectors test --against-fake NAME` use them where the real service cannot be had. A fake
refuses what the vendor refuses: credentials, page sizes, rates, unknown parameters.
"""
