"""The spec that `layerprint init` writes."""

EXAMPLE = """\
store: ./audits                    # or s3://bucket/prefix: everything the audit writes
encoder:
  model: vit_small_patch14_dinov2.lvd142m   # any timm model
  weights: hub                     # hub | random | a path or s3:// URI of a state dict (.safetensors, .pth)
  model_args: {}                   # passed to timm.create_model: img_size, patch_size, embed_dim, depth …
  image_size: 112
  pooling: mean                    # mean (of patch tokens) | cls
  layers: all                      # all | [0, 3, 11]; 0 = the embedding output, then one per block
  precision: float32               # float32 | bfloat16 | float16: of the forward pass; embeddings stay float32
reference:
  name: cifar10
  train: s3://data/cifar10/train/      # what the model was trained on
  held_out: s3://data/cifar10/test/    # the same distribution, never trained on
releases:                          # or {from: s3://releases/*/*}, with a release.yaml in each folder
  # groups: images that are not independent, by a regular expression on their keys, for example 'prompt_(\\d+)_'
  - {name: glow, version: "80", family: flow, images: s3://releases/glow/80/}
scoring: {preset: default, components: 64, cells: 10, seed: 0}   # default | meehan | paper
copies: {views: [as it is, mirrored, shifted]}   # what is compared for copies; false: the layers' copy rates decide
gate: {max_copy_rate: 0, detectable_copy_rate: 0.01, max_rejected: 0.05}
# cluster: {ray: "http://head:8265"}   # a Ray cluster that does the work; left out: this machine
"""
