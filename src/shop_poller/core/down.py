"""The statuses of HTTP by which a proxy, or a server as a whole, says that the peer behind it is down."""

DOWN = frozenset(
    {
        502,  # bad gateway
        503,  # maintenance, overload
        504,  # the gateway got no answer
        509,  # bandwidth used up (cPanel)
        520,  # Cloudflare, up to 527: the server behind it answers with nonsense
        521,  # it is down
        522,  # no connection in time
        523,  # no way to it
        524,  # no answer in time
        525,  # no TLS handshake
        526,  # a bad certificate
        527,  # Railgun lost its server
        529,  # overloaded
        530,  # Cloudflare does not find the server; a site that was frozen (Pantheon)
        540,  # switched off for a time (Shopify)
        598,  # a proxy's time-out of reading
        599,  # a proxy's time-out of connecting
    }
)
"""They say nothing of what was sent. Of a shop and of a receiver they mean the same."""
