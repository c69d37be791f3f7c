# The routing layer alone, for the builds of test_route_threads.py; not shipped.
include "../_probe_route.pxi"
