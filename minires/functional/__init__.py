"""The ops under the names, signatures and defaults of `torch.nn.functional` (and of torch's tensor functions)."""

from minires.functional.activation import *
from minires.functional.attention import *
from minires.functional.conv import *
from minires.functional.dropout import *
from minires.functional.elementwise import *
from minires.functional.embedding import *
from minires.functional.interpolate import *
from minires.functional.linear import *
from minires.functional.loss import *
from minires.functional.norm import *
from minires.functional.pool import *
from minires.functional.reduce import *
from minires.functional.residual import *
from minires.functional.shape import *
from minires.functional.softmax import *
