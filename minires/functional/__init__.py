"""The ops under the names, signatures and defaults of `torch.nn.functional` (and of torch's tensor functions)."""

import importlib

for _family in "elementwise activation reduce shape linear conv pool interpolate norm softmax attention embedding dropout loss residual".split():
    try:
        _m = importlib.import_module(f"minires.functional.{_family}")
    except ModuleNotFoundError as _e:  # temporary: families land one by one
        continue
    globals().update({_n: getattr(_m, _n) for _n in _m.__all__})
