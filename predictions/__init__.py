"""Prediction files: the class probabilities of one network, or of a sum of several, for the photographs of one split.

`NAME.npy` holds them all, (n, K) in numpy's own format; `NAME.npz` the k most probable classes of each photograph.
`NAME.json` beside it says what they are about, a key a line: the fields of `PredictionInfo`. No file ever exists half
written. The JSON comes last, and a reader needs both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ensemble_sum": ["Sums", "ensemble_sums", "read_weights"],
        "format": ["PredictionInfo", "check_rows"],
        "metrics": ["mean_class_error", "top1_error"],
        "reading": ["Member", "open_member", "open_members"],
        "top_k": ["TopMember", "keep_top"],
        "writer": ["PredictionWriter", "fingerprint", "join_predictions", "write_predictions"],
    },
)
