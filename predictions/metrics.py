"""The two error rates of the challenge.

*Top-1 error* is the share of photographs that get a wrong class. *Mean class error* first takes this share for each
class by itself, then the average over the classes. Suppose a shop has 99 photographs of tea and one of a teapot, and a
network answers "tea" for all of them. Its top-1 error is 1 %, which looks good. But it has all tea right (0 %) and all
teapots wrong (100 %): its mean class error is 50 %. Where every product matters, also the rare ones, look at this one.
"""

import numpy as np


def top1_error(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of photographs that get a wrong class.

    Args:
        predicted: (n,) class indices, n ≥ 1.
        labels: (n,) true class indices.

    Returns:
        A fraction from 0 to 1.
    """
    return float(_wrong(predicted, labels).mean())


def mean_class_error(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The error rate of each class, averaged over the classes that occur among the labels.

    A class of five photographs counts as much as one of 8,000. The AliProducts Challenge ranks by it. It is one minus
    scikit-learn's balanced accuracy, without the warning about predicted classes that have no photograph.

    Args:
        predicted: (n,) class indices, n ≥ 1.
        labels: (n,) true class indices.

    Returns:
        A fraction from 0 to 1.
    """
    wrong = _wrong(predicted, labels)
    _, place, photographs = np.unique(labels, return_inverse=True, return_counts=True)
    return float((np.bincount(place, weights=wrong) / photographs).mean())


def _wrong(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(f"expected two equally long rows of classes, not shapes {predicted.shape} and {labels.shape}")
    return predicted != labels
