"""scikit-learn's own checks of estimators, on both, with every solver."""

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is the judge")

from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmlp.sklearn import MLPClassifier, MLPRegressor

ROUNDING = "asks for equal results to 1e-7; sums of float32 in another order differ by more (test_weights.py has 1e-4)"
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": ROUNDING,
    "check_sample_weight_equivalence_on_sparse_data": ROUNDING,
}
ESTIMATORS = [
    estimator(solver=solver, max_iter=100)
    for estimator in (MLPClassifier, MLPRegressor)
    for solver in ("adam", "sgd", "lbfgs")
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda _: EXPECTED, xfail_strict=False)
def test_check(estimator, check):
    check(estimator)
