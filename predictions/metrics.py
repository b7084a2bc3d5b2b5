"""The two error rates of the challenge."""

import numpy as np


def top1_error(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of photographs that are given a wrong class.

    Args:
        predicted: (n,) class indices, n ≥ 1.
        labels: (n,) true class indices.

    Returns:
        A fraction from 0 to 1.
    """
    return float(_wrong(predicted, labels).mean())


def mean_class_error(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of wrong photographs of each class, averaged over the classes that occur among the labels.

    The AliProducts Challenge ranks by it: a class of five photographs counts as much as one of 8,000. Equals one
    minus the balanced accuracy of scikit-learn, without its warning about predicted classes that never occur.

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
