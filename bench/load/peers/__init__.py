"""The routers that are compared, by name."""

from bench.load.peers.base import Peer, Running, Settings
from bench.load.peers.gorouter import Gorouter
from bench.load.peers.haproxy import HAProxy
from bench.load.peers.nginx import Nginx
from bench.load.peers.plain import Aiohttp, PlainPython

PEERS: dict[str, Peer] = {peer.name: peer for peer in (HAProxy(), Nginx(), PlainPython(), Aiohttp(), Gorouter())}

__all__ = ["PEERS", "Peer", "Running", "Settings"]
