"""The soak: many rotations over many grants in four processes, disrupted at random.

`run` runs one and audits it, `worker` is one of its processes, `disruptions` what happens to them, `figures`
what comes of it.
"""
