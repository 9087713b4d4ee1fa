"""The factory wing: networks, training, and the making of bundles. Only here is torch imported."""
