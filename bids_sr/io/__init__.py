"""Files: NIfTI images and series, tables, JSON, checksums, templates and BIDS descriptions.

Files are written whole or not at all (`atomic_files`), and series are read volume by volume
(`nifti`). Transforms are read in `bids_sr.spatial`, models in `bids_sr.sr.models`, and names of
outputs are set in `bids_sr.engine.store`.
"""
