"""Regions of Label Studio, refined.

`brush` decodes its run lengths, `shapes` makes masks of regions and regions of masks, `interface` reads a project's
labeling configuration, and `results` refines the result of an annotation. `crispmask.app.label_studio` serves them.
"""
