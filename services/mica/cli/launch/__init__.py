"""How ``mica run`` puts work into a slice: as a program of this machine or as a container, once or again and again.

``deciding`` is the pure part: what comes next. ``work`` is the port, ``programs`` and ``containers`` are what stands behind it,
``sighting`` and ``asking`` tell where the slice is, and ``supervising`` joins them.
"""
