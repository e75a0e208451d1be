"""What scikit-learn expects of an estimator. It is imported only if the program has imported it, or asks for tags."""

import sys
from typing import Any

__all__ = ["NotFittedError", "conversion_warning", "not_fitted_error", "tags_of"]


class NotFittedError(ValueError, AttributeError):
    """An estimator was used before `fit`. If scikit-learn is loaded, its error of this name is raised instead."""


class DataConversionWarning(UserWarning):
    """Data was converted. If scikit-learn is loaded, its warning of this name is used instead."""


def not_fitted_error() -> type[Exception]:
    """The class of the error."""
    return getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", NotFittedError)


def conversion_warning() -> type[Warning]:
    """The class of the warning."""
    return getattr(sys.modules.get("sklearn.exceptions"), "DataConversionWarning", DataConversionWarning)


def tags_of(kind: str) -> Any:
    """scikit-learn's tags of a "classifier" or "regressor", which it asks for."""
    from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

    return Tags(
        estimator_type=kind,
        target_tags=TargetTags(required=True),
        input_tags=InputTags(two_d_array=True, three_d_array=True),
        classifier_tags=ClassifierTags() if kind == "classifier" else None,
        regressor_tags=RegressorTags() if kind == "regressor" else None,
    )
