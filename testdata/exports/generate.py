"""Writes the exports of this folder and their reference outputs: scikit-learn's models as skl2onnx writes them.

Needs numpy, scikit-learn 1.9, skl2onnx 1.20, onnx 1.22 and onnxruntime 1.31. The data is synthetic.
Each NAME.npz has `x` (64 rows) and `out_<output>` of onnxruntime with graph optimisation off.
"""

import pathlib

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.datasets import make_classification
from sklearn.decomposition import TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, OneClassSVM

FOLDER = pathlib.Path(__file__).parent
ROWS = 64
# Away from the rows of the training, of which some lie on the margins of support vector machines.
SHIFT = np.float32(0.37)


def data(classes, seed):
    """Six features of scales from 1 to 1000, and a class for each row."""
    x, y = make_classification(
        400, 6, n_informative=4, n_redundant=1, n_classes=classes, random_state=seed
    )
    return (x * [1, 10, 100, 1000, 5, 2] + [3, 20, 300, 4000, 9, 1]).round(2).astype(np.float32), y


def scaled(*steps):
    return make_pipeline(StandardScaler(), *steps)


TWO, THREE = data(2, 1), data(3, 2)
NAMES = np.array(["benign", "scan", "flood"])[THREE[1]]
TARGET = TWO[0] @ [1, 0.1, 0.02, 0.001, 0.3, 0.4]
TARGETS = np.c_[TARGET, 2 * TARGET + TWO[0][:, 0]]
BOTH = {"zipmap": True}
PLAIN = {"zipmap": False}

MODELS = {
    "logistic": (scaled(LogisticRegression()), *TWO, PLAIN),
    "logistic_zipmap": (scaled(LogisticRegression()), *TWO, BOTH),
    "logistic_3": (scaled(LogisticRegression()), *THREE, PLAIN),
    "logistic_3_texts": (scaled(LogisticRegression()), THREE[0], NAMES, BOTH),
    "one_versus_rest_3": (scaled(OneVsRestClassifier(LogisticRegression())), *THREE, PLAIN),
    "linear_svc_3": (LinearSVC(), *THREE, None),
    "ridge_3": (RidgeClassifier(), *THREE, None),
    "discriminant_3": (scaled(LinearDiscriminantAnalysis()), *THREE, PLAIN),
    "perceptron": (scaled(Perceptron()), *TWO, PLAIN),
    "gradient_descent": (scaled(SGDClassifier(loss="log_loss", random_state=1)), *TWO, PLAIN),
    "svc": (scaled(SVC(kernel="linear")), *TWO, PLAIN),
    "svc_calibrated": (scaled(SVC(kernel="linear", probability=True, random_state=1)), *TWO, PLAIN),
    "svc_3": (scaled(SVC(kernel="linear")), *THREE, PLAIN),
    "svc_polynomial": (scaled(SVC(kernel="poly")), *TWO, PLAIN),
    "one_class": (scaled(OneClassSVM(kernel="linear")), TWO[0], None, None),
    "svr": (scaled(SVR(kernel="linear")), TWO[0], TARGET, None),
    "linear_svr": (scaled(LinearSVR(random_state=1)), TWO[0], TARGET, None),
    "regression_2": (scaled(LinearRegression()), TWO[0], TARGETS, None),
    "norm_logistic": (make_pipeline(Normalizer(), LogisticRegression()), *TWO, PLAIN),
    "decomposed_logistic": (scaled(TruncatedSVD(3), LogisticRegression()), *TWO, PLAIN),
    "selected_logistic": (make_pipeline(VarianceThreshold(2.0), StandardScaler(), LogisticRegression()), *TWO, PLAIN),
    "maxabs_logistic": (make_pipeline(MaxAbsScaler(), LogisticRegression()), *TWO, PLAIN),
    "robust_logistic": (make_pipeline(RobustScaler(), LogisticRegression()), *TWO, PLAIN),
    "imputed_mlp": (
        make_pipeline(SimpleImputer(), StandardScaler(), MLPClassifier((8,), max_iter=60, random_state=1)),
        *TWO,
        PLAIN,
    ),
    "clipped_mlp": (
        make_pipeline(MinMaxScaler(clip=True), MLPClassifier((8,), max_iter=60, random_state=1)),
        *TWO,
        PLAIN,
    ),
    "regressor_2": (scaled(MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, random_state=1)), TWO[0], TARGETS, None),
}


def main():
    for name, (model, x, y, options) in MODELS.items():
        rows = x[:ROWS] + SHIFT
        model.fit(x, y)
        options = options and {id(model): options}
        try:
            export = to_onnx(model, x[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3})
        except NameError:
            # Some converters know no such option.
            export = to_onnx(model, x[:1], target_opset={"": 17, "ai.onnx.ml": 3})
        (FOLDER / f"{name}.onnx").write_bytes(export.SerializeToString())
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(export.SerializeToString(), settings)
        outputs = session.run(None, {session.get_inputs()[0].name: rows})
        arrays = {"x": rows}
        for output, values in zip(session.get_outputs(), outputs):
            if isinstance(values, list):
                values = np.array([[row[key] for key in row] for row in values], np.float32)
            if values.dtype == object:
                values = values.astype("U")
            arrays[f"out_{output.name}"] = values
        np.savez(FOLDER / f"{name}.npz", **arrays)


main()
