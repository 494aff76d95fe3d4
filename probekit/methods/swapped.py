"""Cross-entropy between the codes of an image's large crops and what its other crops say of them."""

from torch import Tensor


def swapped_cross_entropy(codes: Tensor, logits: Tensor) -> Tensor:
    """The mean over crops with codes, and over all other crops, of -sum q log softmax(logits).

    Args:
        codes: `[P, B, K]` of the large crops, rows that add up to 1, without gradients.
        logits: `[V, B, K]` of every crop, the large ones first, divided by the temperature.

    Returns:
        Scalar, float32; at most ln K for logits that are all alike.
    """
    P, V = len(codes), len(logits)
    said = logits.float().log_softmax(2)
    total = codes.sum(0)
    agreement = ((total - codes) * said[:P]).sum()  # with the codes of the other large crops
    if V > P:
        agreement = agreement + (total * said[P:]).sum()
    return agreement / -(P * (V - 1) * codes.shape[1])
