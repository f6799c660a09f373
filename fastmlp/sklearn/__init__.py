"""scikit-learn's MLPClassifier and MLPRegressor, trained by fastmlp: change the import, and keep the script.

>>> from fastmlp.sklearn import MLPClassifier
>>> X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["no", "yes", "yes", "no"]
>>> classifier = MLPClassifier((8,), solver="lbfgs", random_state=1).fit(X, y)
>>> classifier.predict(X).tolist()
['no', 'yes', 'yes', 'no']
"""

try:
    import scipy.optimize as _scipy  # noqa: F401
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"fastmlp.sklearn needs scikit-learn and SciPy: pip install 'fastmlp[sklearn]' ({error})"
    ) from error

from fastmlp.sklearn.classifier import MLPClassifier
from fastmlp.sklearn.parallel import SharingThreads
from fastmlp.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "SharingThreads"]
