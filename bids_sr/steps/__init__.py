"""Steps of the core, typed functions that workflows call, in modules by subject.

A step calls functions of `bids_sr.spatial`, `bids_sr.sr`, `bids_sr.glm` and other folders of
arrays; its signature lists artifacts and settings (`bids_sr.pipeline.step`). The order of steps is
in `bids_sr.workflows`. Steps of wings are in their wings.
"""
