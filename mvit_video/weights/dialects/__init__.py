"""The families whose checkpoints are read, one module each.

To add a family, write `dialects/<family>.py` with a `READER`: a `FamilyReader` that names the family's
dialects. A `Dialect` is a table of rules made by `copy`, `reshape`, `join`, `duplicate` and `drop`
(`mvit_video/weights/dialect.py`), and the markers that tell its files from all others. Then add the
reader to `READERS` below. Wrappers (`model`, `state_dict`, `model_state`), key prefixes (`module.`),
NaNs, missing and unexpected tensors, heads of other sizes, inflation of convolutions along time and
export to the native format are the same for all families and need nothing from it. Alias keys are
`duplicate` rules: compared with the tensor they repeat, then dropped.
"""

from mvit_video.weights.dialects import cloformer, dual_vit, mpvit, mvit
from mvit_video.weights.family import FamilyReader

READERS: tuple[FamilyReader, ...] = (
    mvit.READER,
    dual_vit.READER,
    mpvit.READER,
    cloformer.READER,
)
